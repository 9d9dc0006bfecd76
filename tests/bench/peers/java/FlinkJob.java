import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.generic.GenericRecord;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.co.ProcessJoinFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * The jobs in Flink: parallelism 1, state on the heap, objects reused, no checkpoints. Final results with grace are had by
 * out-of-orderness, since allowed lateness would give them again. At the end of its input it closes every window.
 */
public final class FlinkJob {
    private static final String BOOTSTRAP = System.getenv("BENCH_BOOTSTRAP");
    private static final String OUT = System.getenv("BENCH_SINK");

    /** A trade, or a quote, whose bid is its price. */
    public static final class Trade {
        public String symbol;
        public long ts;
        public double price;
    }

    public static final class Sums {
        public long count;
        public double sum;
        public double greatest = Double.NEGATIVE_INFINITY;
    }

    public static final class Result {
        public String symbol;
        public byte[] value;
    }

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1, configuration());
        flink.getConfig().enableObjectReuse();
        WatermarkStrategy<Trade> late = WatermarkStrategy.<Trade>forBoundedOutOfOrderness(Duration.ofSeconds(5))
                .withTimestampAssigner((trade, time) -> trade.ts);
        String[] sources = System.getenv("BENCH_SOURCE").split(",");
        KeyedStream<Trade, String> trades = flink.fromSource(source(sources[0], false), late, "trades")
                .keyBy(trade -> trade.symbol);
        DataStream<Result> results = switch (System.getenv("BENCH_JOB")) {
            case "windows" -> trades.window(SlidingEventTimeWindows.of(Duration.ofSeconds(60), Duration.ofSeconds(10)))
                    .aggregate(new Add(), new Give());
            // What lies exactly the gap apart is one session to Flink.
            case "sessions" -> trades.window(EventTimeSessionWindows.withGap(Duration.ofMillis(4999)))
                    .aggregate(new Add(), new Give());
            case "near" -> trades.intervalJoin(flink.fromSource(source(sources[1], true), late, "quotes")
                            .keyBy(quote -> quote.symbol))
                    .between(Duration.ofSeconds(-1), Duration.ofSeconds(1)).process(new Near());
            default -> trades.process(new Count());
        };
        results.sinkTo(sink());
        flink.execute();
        Meter.done();
        System.exit(0);
    }

    private static Configuration configuration() {
        Configuration configuration = new Configuration();
        configuration.setString("taskmanager.numberOfTaskSlots", "2");
        configuration.setString("taskmanager.memory.network.min", "64mb");
        configuration.setString("taskmanager.memory.network.max", "64mb");
        configuration.setString("taskmanager.memory.managed.size", "16mb");
        configuration.setString("pipeline.object-reuse", "true");
        configuration.setString("pipeline.auto-watermark-interval", "200ms");
        configuration.setString("state.backend.type", "hashmap");
        return configuration;
    }

    private static KafkaSource<Trade> source(String topic, boolean quotes) {
        return KafkaSource.<Trade>builder().setBootstrapServers(BOOTSTRAP).setTopics(topic)
                .setGroupId(OUT).setStartingOffsets(OffsetsInitializer.earliest())
                .setBounded(OffsetsInitializer.latest()).setProperty("max.poll.records", "5000")
                .setDeserializer(new Read(quotes)).build();
    }

    private static KafkaSink<Result> sink() {
        Properties properties = new Properties();
        properties.put("linger.ms", "20");
        properties.put("batch.size", "131072");
        properties.put("compression.type", "lz4");
        return KafkaSink.<Result>builder().setBootstrapServers(BOOTSTRAP).setKafkaProducerConfig(properties)
                .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
                .setRecordSerializer((KafkaRecordSerializationSchema<Result>) (result, context, time) ->
                        new ProducerRecord<>(OUT, result.symbol.getBytes(StandardCharsets.UTF_8), result.value))
                .build();
    }

    private static final class Read implements KafkaRecordDeserializationSchema<Trade> {
        private final boolean quotes;
        private transient Trades reader;

        private Read(boolean quotes) {
            this.quotes = quotes;
        }

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Trade> out) {
            if (reader == null) {
                reader = quotes ? Trades.quotes() : new Trades();
            }
            GenericRecord read = reader.read(record.value(), false);
            Trade trade = new Trade();
            trade.symbol = (String) read.get(Trades.SYMBOL);
            trade.ts = (Long) read.get(Trades.TS);
            trade.price = (Double) read.get(Trades.PRICE);
            Meter.tick();
            out.collect(trade);
        }

        @Override
        public TypeInformation<Trade> getProducedType() {
            return TypeInformation.of(Trade.class);
        }
    }

    private static final class Near extends ProcessJoinFunction<Trade, Trade, Result> {
        @Override
        public void processElement(Trade trade, Trade quote, Context context, Collector<Result> out) {
            Result result = new Result();
            result.symbol = trade.symbol;
            result.value = Trades.quoted(trade.ts, trade.price, quote.ts, quote.price);
            out.collect(result);
        }
    }

    private static final class Add implements AggregateFunction<Trade, Sums, Sums> {
        @Override
        public Sums createAccumulator() {
            return new Sums();
        }

        @Override
        public Sums add(Trade trade, Sums sums) {
            sums.count++;
            sums.sum += trade.price;
            sums.greatest = Math.max(sums.greatest, trade.price);
            return sums;
        }

        @Override
        public Sums getResult(Sums sums) {
            return sums;
        }

        @Override
        public Sums merge(Sums one, Sums other) {
            one.count += other.count;
            one.sum += other.sum;
            one.greatest = Math.max(one.greatest, other.greatest);
            return one;
        }
    }

    private static final class Give extends ProcessWindowFunction<Sums, Result, String, TimeWindow> {
        @Override
        public void process(String symbol, Context context, Iterable<Sums> all, Collector<Result> out) {
            Sums sums = all.iterator().next();
            Result result = new Result();
            result.symbol = symbol;
            result.value = Trades.window(context.window().getStart(), sums.count, sums.sum, sums.greatest);
            out.collect(result);
        }
    }

    private static final class Count extends KeyedProcessFunction<String, Trade, Result> {
        private static final long EVERY = 100_000_000L;
        private transient ValueState<Long> count;
        private transient ValueState<Long> told;

        @Override
        public void open(OpenContext context) {
            count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Long.class));
            told = getRuntimeContext().getState(new ValueStateDescriptor<>("told", Long.class));
        }

        @Override
        public void processElement(Trade trade, Context context, Collector<Result> out) throws Exception {
            Long before = count.value();
            long now = System.nanoTime();
            long next = before == null ? 1 : before + 1;
            count.update(next);
            Long last = told.value();
            if (last == null || now - last >= EVERY) {
                told.update(now);
                Result result = new Result();
                result.symbol = trade.symbol;
                result.value = Trades.count(trade.ts, next);
                out.collect(result);
            }
        }
    }
}
