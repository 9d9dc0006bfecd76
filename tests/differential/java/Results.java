import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Windowed;

/** Each window's result once, when it is closed. */
final class Results {
    private Results() {}

    static <V> KStream<Windowed<String>, V> closed(KTable<Windowed<String>, V> table) {
        return table.suppress(
                Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded().withLoggingDisabled())).toStream();
    }
}
