import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.Stores;

/**
 * How many trades each symbol had, and what they came to, in a store in memory with a changelog. The first run fills it
 * and ends; the next one restores it: its clock runs from the first partition's restoration, which begins when it is
 * assigned, until each partition has had an event.
 */
public final class RecoveryJob {
    private static final String OUT = System.getenv("BENCH_SINK");
    private static final int PARTITIONS = Integer.parseInt(System.getenv("BENCH_PARTITIONS"));
    private static final Set<Integer> SEEN = ConcurrentHashMap.newKeySet();
    private static final CountDownLatch ALL = new CountDownLatch(1);
    private static final AtomicLong FROM = new AtomicLong();
    private static final AtomicLong RESTORED = new AtomicLong();
    private static volatile long restoredAt;
    private static volatile long allAt;

    private static final class Sums {
        private long count;
        private double sum;

        private Sums add(double price) {
            count++;
            sum += price;
            return this;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Thread watch = new Thread(RecoveryJob::watch);
        watch.setDaemon(true);
        watch.start();
        StreamsBuilder builder = new StreamsBuilder();
        Serde<GenericRecord> trades = trades();
        builder.stream(System.getenv("BENCH_SOURCE"), Consumed.with(Serdes.String(), trades))
                .processValues(Look::new)
                .groupByKey(Grouped.with(Serdes.String(), trades))
                .aggregate(Sums::new, (symbol, trade, sums) -> sums.add((Double) trade.get(Trades.PRICE)),
                        Materialized.<String, Sums>as(Stores.inMemoryKeyValueStore("rows"))
                                .withKeySerde(Serdes.String()).withValueSerde(sums()).withCachingEnabled())
                .toStream().filter((symbol, sums) -> sums.count > 1)
                .mapValues(sums -> Trades.count(0, sums.count))
                .to(OUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties());
        streams.setGlobalStateRestoreListener(new Restoring());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        ALL.await();
        System.out.println(String.format(Locale.ROOT, "{\"rows\":%d,\"restored\":%.3f,\"processing\":%.3f}",
                RESTORED.get(), (restoredAt - FROM.get()) / 1e9, (allAt - FROM.get()) / 1e9));
        System.out.flush();
        watch.join();
        streams.close(Duration.ofSeconds(60));
        System.exit(0);
    }

    /** Returns when its input is closed; before all partitions were seen, that is the end. */
    private static void watch() {
        try {
            while (System.in.read() >= 0) {}
        } catch (IOException error) {
            // The same to us.
        }
        if (ALL.getCount() > 0) {
            Runtime.getRuntime().halt(1);
        }
    }

    /** Sees when each partition has had an event. */
    private static final class Look extends ContextualFixedKeyProcessor<String, GenericRecord, GenericRecord> {
        @Override
        public void process(FixedKeyRecord<String, GenericRecord> trade) {
            context().forward(trade);
            if (SEEN.size() < PARTITIONS && SEEN.add(context().taskId().partition()) && SEEN.size() == PARTITIONS) {
                allAt = System.nanoTime();
                ALL.countDown();
            }
        }
    }

    private static final class Restoring implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            FROM.compareAndSet(0, System.nanoTime());
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long to, long count) {}

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long count) {
            RESTORED.addAndGet(count);
            restoredAt = System.nanoTime();
        }
    }

    private static Serde<GenericRecord> trades() {
        Trades reader = new Trades();
        return Serdes.serdeFrom((topic, trade) -> null, (topic, value) -> reader.read(value, true));
    }

    private static Serde<Sums> sums() {
        return Serdes.serdeFrom(
                (topic, sums) -> sums == null ? null
                        : ByteBuffer.allocate(16).putLong(sums.count).putDouble(sums.sum).array(),
                (topic, bytes) -> {
                    if (bytes == null) {
                        return null;
                    }
                    Sums sums = new Sums();
                    sums.count = ByteBuffer.wrap(bytes).getLong();
                    sums.sum = ByteBuffer.wrap(bytes).getDouble(8);
                    return sums;
                });
    }

    private static Properties properties() {
        Properties properties = new Properties();
        properties.put("application.id", OUT);
        properties.put("bootstrap.servers", System.getenv("BENCH_BOOTSTRAP"));
        properties.put("state.dir", System.getenv("BENCH_FOLDER"));
        properties.put("num.stream.threads", 1);
        properties.put("auto.offset.reset", "earliest");
        properties.put("statestore.cache.max.bytes", 64L << 20);
        properties.put("commit.interval.ms", 100);
        properties.put("consumer.max.poll.records", 5000);
        properties.put("restore.consumer.max.poll.records", 50000);
        properties.put("producer.linger.ms", 20);
        properties.put("producer.batch.size", 131072);
        properties.put("producer.compression.type", "lz4");
        return properties;
    }
}
