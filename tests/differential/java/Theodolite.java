import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.Stores;

/** Theodolite's use cases 1 to 3, and session windows, over its records; final results only. */
final class Theodolite {
    private static final ZoneId ZONE = ZoneId.of("Europe/Paris");

    private Theodolite() {}

    /** UC1: each measurement that is above zero as a row for a database. */
    static void store(Job job) {
        Framed row = job.schema("out");
        job.to(readings(job).filter((key, reading) -> watts(reading) > 0).mapValues(reading -> {
            long at = (Long) reading.get("timestamp");
            double kilowatts = watts(reading) / 1000;
            return row.record(reading.get("identifier"), at, Math.floorDiv(at, 1000L), kilowatts, kilowatts >= 0.1);
        }));
    }

    /** UC2, downsampling: statistics of each sensor's windows. */
    static void downsample(Job job) {
        windows(job, readings(job), job.duration("grace"));
    }

    /** UC3: statistics of each sensor's measurements at the same hour of the day. */
    static void hours(Job job) {
        windows(job, readings(job).selectKey((key, reading) -> key + "/" + hour((Long) reading.get("timestamp"))),
                job.duration("streams_grace"));
    }

    private static int hour(long at) {
        return Instant.ofEpochMilli(at).atZone(ZONE).getHour();
    }

    private static void windows(Job job, KStream<String, GenericRecord> readings, Duration grace) {
        TimeWindows windows = TimeWindows.ofSizeAndGrace(job.duration("size"), grace)
                .advanceBy(job.duration("step"));
        KTable<Windowed<String>, Stats> table = readings.groupByKey(grouped(job)).windowedBy(windows)
                .aggregate(Stats::new, (key, reading, stats) -> stats.add(watts(reading)),
                        Materialized.<String, Stats>as(Stores.inMemoryWindowStore("windows",
                                        job.duration("size").plus(grace), job.duration("size"), false))
                                .withKeySerde(Serdes.String()).withValueSerde(Stats.serde()).withLoggingDisabled());
        give(job, table, 0);
    }

    /**
     * Sessions that a gap ends. Kafka Streams joins what lies exactly the gap apart, so it is told a gap that is a
     * millisecond shorter; and its sessions end with their last event.
     */
    static void sessions(Job job) {
        SessionWindows windows = SessionWindows.ofInactivityGapAndGrace(job.duration("gap").minusMillis(1),
                job.duration("grace"));
        KTable<Windowed<String>, Stats> table = readings(job).groupByKey(grouped(job)).windowedBy(windows)
                .aggregate(Stats::new, (key, reading, stats) -> stats.add(watts(reading)),
                        (key, one, other) -> Stats.merge(one, other),
                        Materialized.<String, Stats>as(Stores.inMemorySessionStore("sessions",
                                        job.duration("gap").plus(job.duration("grace"))))
                                .withKeySerde(Serdes.String()).withValueSerde(Stats.serde()).withLoggingDisabled());
        give(job, table, job.number("gap"));
    }

    private static void give(Job job, KTable<Windowed<String>, Stats> table, long longer) {
        Framed result = job.schema("out");
        job.to(Results.closed(table).map((key, stats) -> KeyValue.pair(key.key(),
                result.record(key.key(), key.window().start(), key.window().end() + longer, stats.count, stats.sum,
                        stats.mean(), stats.least, stats.greatest, stats.variance()))));
    }

    private static Grouped<String, GenericRecord> grouped(Job job) {
        return Grouped.with("readings", Serdes.String(), job.schema("readings").serde());
    }

    private static KStream<String, GenericRecord> readings(Job job) {
        return job.stream("readings", "timestamp");
    }

    private static double watts(GenericRecord reading) {
        return (Double) reading.get("valueInW");
    }
}
