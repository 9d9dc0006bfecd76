import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs the jobs of a file, each as an application of its own, until its input is closed. */
public final class Differential {
    private Differential() {}

    public static void main(String[] arguments) throws Exception {
        List<KafkaStreams> running = new ArrayList<>();
        for (JsonNode told : new ObjectMapper().readTree(Path.of(arguments[0]).toFile())) {
            Job job = new Job(told);
            KafkaStreams streams = new KafkaStreams(topology(job), properties(job));
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            running.add(streams);
        }
        System.out.println("up");
        while (System.in.read() >= 0) {}
        running.forEach(streams -> streams.close(Duration.ofSeconds(10)));
        System.out.println("down");
        System.exit(0);
    }

    private static Topology topology(Job job) {
        switch (job.text("kind")) {
            case "uc1" -> Theodolite.store(job);
            case "uc2" -> Theodolite.downsample(job);
            case "uc3" -> Theodolite.hours(job);
            case "uc4" -> Hierarchy.build(job);
            case "near" -> Joins.near(job);
            case "latest" -> Joins.latest(job);
            case "sessions" -> Theodolite.sessions(job);
            default -> throw new IllegalArgumentException("no job " + job.text("kind"));
        }
        return job.builder.build();
    }

    private static Properties properties(Job job) {
        Properties properties = new Properties();
        properties.put("application.id", job.text("application"));
        properties.put("bootstrap.servers", job.text("bootstrap"));
        properties.put("state.dir", job.text("folder"));
        properties.put("default.key.serde", Serdes.StringSerde.class.getName());
        properties.put("num.stream.threads", 1);
        properties.put("auto.offset.reset", "earliest");
        properties.put("commit.interval.ms", 100);
        properties.put("statestore.cache.max.bytes", 0);
        // What of left and outer joins has no partner comes as soon as event time allows, not once a second.
        properties.put("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", 0);
        return properties;
    }
}
