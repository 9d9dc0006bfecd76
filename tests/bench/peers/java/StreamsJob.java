import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The jobs in Kafka Streams: one thread, state in memory without changelog, final results by suppression. */
public final class StreamsJob {
    static final class Sums {
        long count;
        double sum;
        double greatest = Double.NEGATIVE_INFINITY;
    }

    private static final String IN = System.getenv("BENCH_SOURCE");
    private static final String OUT = System.getenv("BENCH_SINK");
    private static final CountDownLatch DONE = new CountDownLatch(1);

    public static void main(String[] arguments) throws Exception {
        StreamsBuilder builder = new StreamsBuilder();
        String[] sources = IN.split(",");
        KStream<String, GenericRecord> trades = builder.stream(sources[0], consumed(trades()));
        switch (System.getenv("BENCH_JOB")) {
            case "windows" -> windows(trades);
            case "sessions" -> sessions(trades);
            case "near" -> near(trades, builder.stream(sources[1], consumed(quotes())));
            case "latest" -> latest(trades, builder.stream(sources[1], consumed(quotes())));
            default -> counts(builder, trades);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), properties());
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        DONE.await();
        streams.close(Duration.ofSeconds(60)); // sends and commits what is left
        Meter.done();
        System.exit(0);
    }

    private static Consumed<String, GenericRecord> consumed(Serde<GenericRecord> serde) {
        return Consumed.with(Serdes.String(), serde)
                .withTimestampExtractor((record, time) -> (Long) ((GenericRecord) record.value()).get(Trades.TS));
    }

    /** Symbol by symbol, all quotes within a second of a trade. */
    private static void near(KStream<String, GenericRecord> trades, KStream<String, GenericRecord> quotes) {
        JoinWindows within = JoinWindows.ofTimeDifferenceAndGrace(Duration.ofSeconds(1), Duration.ofSeconds(1));
        KStream<String, byte[]> left = trades.mapValues(trade -> side((Long) trade.get(Trades.TS),
                (Double) trade.get(Trades.PRICE)));
        KStream<String, byte[]> right = quotes.mapValues(quote -> side((Long) quote.get(Trades.TS),
                (Double) quote.get(Trades.BID)));
        left.peek((symbol, trade) -> tick()).join(right.peek((symbol, quote) -> tick()), StreamsJob::quoted, within,
                StreamJoined.with(Serdes.String(), Serdes.ByteArray(), Serdes.ByteArray())
                        .withThisStoreSupplier(Stores.inMemoryWindowStore("trades", Duration.ofSeconds(3),
                                Duration.ofSeconds(2), true))
                        .withOtherStoreSupplier(Stores.inMemoryWindowStore("quotes", Duration.ofSeconds(3),
                                Duration.ofSeconds(2), true))
                        .withLoggingDisabled())
                .to(OUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
    }

    /** Symbol by symbol, the last quote before a trade, which waits for the grace period. Versioned stores are on disk. */
    private static void latest(KStream<String, GenericRecord> trades, KStream<String, GenericRecord> quotes) {
        KTable<String, byte[]> table = quotes
                .mapValues(quote -> side((Long) quote.get(Trades.TS), (Double) quote.get(Trades.BID)))
                .peek((symbol, quote) -> tick())
                .toTable(Materialized.<String, byte[]>as(
                                Stores.persistentVersionedKeyValueStore("quotes", Duration.ofSeconds(60)))
                        .withKeySerde(Serdes.String()).withValueSerde(Serdes.ByteArray()).withLoggingDisabled());
        trades.mapValues(trade -> side((Long) trade.get(Trades.TS), (Double) trade.get(Trades.PRICE)))
                .peek((symbol, trade) -> tick())
                .join(table, StreamsJob::quoted, Joined.with(Serdes.String(), Serdes.ByteArray(), Serdes.ByteArray(),
                        "as-of", Duration.ofSeconds(1)))
                .to(OUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
    }

    private static byte[] side(long at, double value) {
        return ByteBuffer.allocate(16).putLong(at).putDouble(value).array();
    }

    private static byte[] quoted(byte[] trade, byte[] quote) {
        return ByteBuffer.allocate(32).put(trade).put(quote).array();
    }

    private static void windows(KStream<String, GenericRecord> trades) {
        TimeWindows hopping = TimeWindows.ofSizeAndGrace(Duration.ofSeconds(60), Duration.ofSeconds(5))
                .advanceBy(Duration.ofSeconds(10));
        give(grouped(trades).windowedBy(hopping)
                .aggregate(Sums::new, (symbol, trade, sums) -> add(sums, (Double) trade.get(Trades.PRICE)),
                        Materialized.<String, Sums>as(Stores.inMemoryWindowStore("windows", Duration.ofSeconds(65),
                                        Duration.ofSeconds(60), false))
                                .withKeySerde(Serdes.String()).withValueSerde(sums()).withCachingEnabled()
                                .withLoggingDisabled()));
    }

    /** What lies exactly the gap apart is one session to Kafka Streams. */
    private static void sessions(KStream<String, GenericRecord> trades) {
        SessionWindows sessions = SessionWindows.ofInactivityGapAndGrace(Duration.ofMillis(4999), Duration.ofSeconds(5));
        give(grouped(trades).windowedBy(sessions)
                .aggregate(Sums::new, (symbol, trade, sums) -> add(sums, (Double) trade.get(Trades.PRICE)),
                        (symbol, one, other) -> merge(one, other),
                        Materialized.<String, Sums>as(Stores.inMemorySessionStore("sessions", Duration.ofSeconds(10)))
                                .withKeySerde(Serdes.String()).withValueSerde(sums()).withCachingEnabled()
                                .withLoggingDisabled()));
    }

    private static KGroupedStream<String, GenericRecord> grouped(KStream<String, GenericRecord> trades) {
        return trades.peek((symbol, trade) -> tick()).groupByKey(Grouped.with(Serdes.String(), trades()));
    }

    private static void give(KTable<Windowed<String>, Sums> table) {
        table.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded().withLoggingDisabled()))
                .toStream()
                .map((window, sums) -> KeyValue.pair(window.key(),
                        Trades.window(window.window().start(), sums.count, sums.sum, sums.greatest)))
                .to(OUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
    }

    private static Sums add(Sums sums, double price) {
        sums.count++;
        sums.sum += price;
        sums.greatest = Math.max(sums.greatest, price);
        return sums;
    }

    private static Sums merge(Sums one, Sums other) {
        Sums both = new Sums();
        both.count = one.count + other.count;
        both.sum = one.sum + other.sum;
        both.greatest = Math.max(one.greatest, other.greatest);
        return both;
    }

    private static void counts(StreamsBuilder builder, KStream<String, GenericRecord> trades) {
        builder.addStateStore(Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("counts"), Serdes.String(),
                Serdes.Long()).withCachingEnabled().withLoggingDisabled());
        trades.process(Counter::new, "counts").to(OUT, Produced.with(Serdes.String(), Serdes.ByteArray()));
    }

    private static final class Counter implements Processor<String, GenericRecord, String, byte[]> {
        private static final long EVERY = 100_000_000L;
        private final Map<String, Long> told = new HashMap<>();
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Long> counts;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            counts = context.getStateStore("counts");
        }

        @Override
        public void process(Record<String, GenericRecord> record) {
            Long before = counts.get(record.key());
            long count = before == null ? 1 : before + 1;
            counts.put(record.key(), count);
            long now = System.nanoTime();
            Long last = told.get(record.key());
            if (last == null || now - last >= EVERY) {
                told.put(record.key(), now);
                context.forward(record.withValue(Trades.count((Long) record.value().get(Trades.TS), count)));
            }
            tick();
        }
    }

    private static void tick() {
        if (Meter.tick()) {
            DONE.countDown();
        }
    }

    private static Serde<GenericRecord> trades() {
        Trades reader = new Trades();
        Deserializer<GenericRecord> deserializer = (topic, value) -> reader.read(value, true);
        return Serdes.serdeFrom((topic, trade) -> null, deserializer);
    }

    private static Serde<GenericRecord> quotes() {
        Trades reader = Trades.quotes();
        return Serdes.serdeFrom((topic, quote) -> null, (topic, value) -> reader.read(value, true));
    }

    private static Serde<Sums> sums() {
        return Serdes.serdeFrom(
                (topic, sums) -> sums == null ? null : ByteBuffer.allocate(24).putLong(sums.count).putDouble(sums.sum)
                        .putDouble(sums.greatest).array(),
                (topic, bytes) -> {
                    if (bytes == null) {
                        return null;
                    }
                    ByteBuffer buffer = ByteBuffer.wrap(bytes);
                    Sums sums = new Sums();
                    sums.count = buffer.getLong();
                    sums.sum = buffer.getDouble();
                    sums.greatest = buffer.getDouble();
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
        properties.put("commit.interval.ms", 1000);
        properties.put("topology.optimization", "all");
        properties.put("consumer.max.poll.records", 5000);
        properties.put("producer.linger.ms", 20);
        properties.put("producer.batch.size", 131072);
        properties.put("producer.compression.type", "lz4");
        return properties;
    }
}
