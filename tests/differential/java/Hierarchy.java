import java.util.ArrayList;
import java.util.List;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;

/**
 * Theodolite's use case 4: the last value of each sensor and window, summed by the groups that it is in then, and those
 * sums by the groups that groups are in. Theodolite gives every change; here each level gives its final results.
 */
final class Hierarchy {
    private final Job job;
    private final TimeWindows windows;
    private final Framed result;

    private Hierarchy(Job job) {
        this.job = job;
        windows = TimeWindows.ofSizeAndGrace(job.duration("size"), job.duration("streams_grace"));
        result = job.schema("out");
    }

    static void build(Job job) {
        new Hierarchy(job).build();
    }

    private void build() {
        Framed contribution = job.schema("contributions");
        KTable<String, GenericRecord> groups = Joins.versions(job, "groups", "since");
        KTable<Windowed<String>, GenericRecord> values = job.stream("readings", "timestamp")
                .join(groups, (reading, group) -> spread(contribution, reading, group),
                        Joined.with(Serdes.String(), job.schema("readings").serde(), job.schema("groups").serde()))
                .flatMap((sensor, all) -> byPair(all))
                .groupByKey(Grouped.with("pairs", Serdes.String(), contribution.serde()))
                .windowedBy(windows)
                .reduce((before, now) -> at(now) >= at(before) ? now : before,
                        Materialized.<String, GenericRecord>as(store("values")).withKeySerde(Serdes.String())
                                .withValueSerde(contribution.serde()).withLoggingDisabled());
        KStream<String, Double> byGroup = closed(values)
                .map((pair, last) -> KeyValue.pair(last.get("parent").toString(), (Double) last.get("valueInW")));
        KTable<Windowed<String>, Stats> sums = summed(byGroup, "sums");
        KStream<String, Double> above = closed(sums).mapValues(stats -> stats.sum)
                .join(groups, (sum, group) -> KeyValue.pair(sum, (List<?>) group.get("parents")),
                        Joined.with(Serdes.String(), Serdes.Double(), job.schema("groups").serde(), "sums-by-group"))
                .flatMap((group, both) -> both.value.stream().map(each -> KeyValue.pair(each.toString(), both.key)).toList());
        KTable<Windowed<String>, Stats> totals = summed(above, "totals");
        job.to(results(sums, 1).merge(results(totals, 2)));
    }

    private static List<GenericRecord> spread(Framed contribution, GenericRecord reading, GenericRecord group) {
        List<GenericRecord> all = new ArrayList<>();
        Object sensor = reading.get("identifier");
        for (Object parent : (List<?>) group.get("parents")) {
            all.add(contribution.record(sensor, sensor + "|" + parent, parent, reading.get("timestamp"),
                    reading.get("valueInW")));
        }
        return all;
    }

    private static List<KeyValue<String, GenericRecord>> byPair(List<GenericRecord> all) {
        return all.stream().map(each -> KeyValue.pair(each.get("pair").toString(), each)).toList();
    }

    private static long at(GenericRecord contribution) {
        return (Long) contribution.get("timestamp");
    }

    private KTable<Windowed<String>, Stats> summed(KStream<String, Double> values, String name) {
        return values.groupByKey(Grouped.with(name, Serdes.String(), Serdes.Double())).windowedBy(windows)
                .aggregate(Stats::new, (group, value, stats) -> stats.add(value),
                        Materialized.<String, Stats>as(store(name)).withKeySerde(Serdes.String())
                                .withValueSerde(Stats.serde()).withLoggingDisabled());
    }

    private WindowBytesStoreSupplier store(String name) {
        return Stores.inMemoryWindowStore(name, job.duration("size").plus(job.duration("streams_grace")),
                job.duration("size"), false);
    }

    private static <V> KStream<String, V> closed(KTable<Windowed<String>, V> table) {
        return Results.closed(table).map((key, value) -> KeyValue.pair(key.key(), value));
    }

    private KStream<String, GenericRecord> results(KTable<Windowed<String>, Stats> table, long level) {
        return Results.closed(table).map((key, stats) -> KeyValue.pair(key.key(),
                result.record(key.key(), key.window().start(), level, stats.count, stats.sum)));
    }
}
