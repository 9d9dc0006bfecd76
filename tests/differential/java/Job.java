import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.TimestampExtractor;

/** What one job is told: its topics by short names, their schemas, and its durations in milliseconds. */
final class Job {
    final StreamsBuilder builder = new StreamsBuilder();
    private final JsonNode told;

    Job(JsonNode told) {
        this.told = told;
    }

    String text(String name) {
        return told.get(name).asText();
    }

    long number(String name) {
        return told.get("numbers").get(name).asLong();
    }

    Duration duration(String name) {
        return Duration.ofMillis(number(name));
    }

    /** Of a source or a sink. */
    Framed schema(String topic) {
        JsonNode found = told.get("topics").get(topic);
        return new Framed(found.get("schema").asText(), found.get("id").asInt());
    }

    /** A source's records by key, with the event times of their field {@code time}. */
    KStream<String, GenericRecord> stream(String source, String time) {
        return builder.stream(topic(source), consumed(source, time));
    }

    Consumed<String, GenericRecord> consumed(String source, String time) {
        TimestampExtractor event = (record, partition) -> (Long) ((GenericRecord) record.value()).get(time);
        return Consumed.with(Serdes.String(), schema(source).serde()).withTimestampExtractor(event);
    }

    void to(KStream<String, GenericRecord> results) {
        results.to(topic("out"), Produced.with(Serdes.String(), schema("out").serde()));
    }

    String topic(String name) {
        return told.get("topics").get(name).get("name").asText();
    }
}
