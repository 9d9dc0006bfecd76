import java.time.Duration;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;

/** Orders and payments: those that lie near each other, and each order's last payment before it. */
final class Joins {
    private static final Duration LONG = Duration.ofDays(365);

    private Joins() {}

    static void near(Job job) {
        JoinWindows within = JoinWindows.ofTimeDifferenceAndGrace(Duration.ZERO, job.duration("grace"))
                .before(job.duration("before")).after(job.duration("after"));
        job.to(job.stream("orders", "at").leftJoin(job.stream("payments", "at"), paid(job), within,
                StreamJoined.with(Serdes.String(), job.schema("orders").serde(), job.schema("payments").serde())
                        .withThisStoreSupplier(store("orders", within)).withOtherStoreSupplier(store("payments", within))
                        .withLoggingDisabled()));
    }

    private static WindowBytesStoreSupplier store(String name, JoinWindows within) {
        Duration size = Duration.ofMillis(within.size());
        return Stores.inMemoryWindowStore(name, size.plusMillis(within.gracePeriodMs()), size, true);
    }

    /** By a table that keeps its versions; orders wait for the grace, so that payments of their time are there. */
    static void latest(Job job) {
        KTable<String, GenericRecord> payments = versions(job, "payments", "at");
        job.to(job.stream("orders", "at").leftJoin(payments, paid(job), Joined.with(Serdes.String(),
                job.schema("orders").serde(), job.schema("payments").serde(), "orders", job.duration("grace"))));
    }

    /** A topic as a table that can be asked what it was at any time. */
    static KTable<String, GenericRecord> versions(Job job, String source, String time) {
        return job.builder.table(job.topic(source), job.consumed(source, time),
                Materialized.<String, GenericRecord>as(Stores.persistentVersionedKeyValueStore(source, LONG))
                        .withKeySerde(Serdes.String()).withValueSerde(job.schema(source).serde()));
    }

    private static ValueJoiner<GenericRecord, GenericRecord, GenericRecord> paid(Job job) {
        Framed result = job.schema("out");
        return (order, payment) -> result.record(order.get("account"), order.get("at"), order.get("id"),
                order.get("amount"), of(payment, "at"), of(payment, "id"), of(payment, "fee"));
    }

    private static Object of(GenericRecord payment, String field) {
        return payment == null ? null : payment.get(field);
    }
}
