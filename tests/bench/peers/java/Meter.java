import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** Counts events and looks at the clocks: at the first event, at half of them, at the last. */
final class Meter {
    static final long EVENTS = Long.parseLong(System.getenv("BENCH_EVENTS"));
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static long seen;
    private static long[] begun, half, last;

    static {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (java.io.IOException error) {
                // The same to us.
            }
            Runtime.getRuntime().halt(1); // whoever has started this is gone
        });
        watch.setDaemon(true);
        watch.start();
    }

    private Meter() {}

    /** One more event. True when it was the last. */
    static synchronized boolean tick() {
        if (seen == 0) {
            begun = clocks();
        }
        long now = seen + 1;
        seen = now;
        if (now == EVENTS / 2) {
            half = clocks();
        }
        if (now == EVENTS) {
            last = clocks();
            return true;
        }
        return false;
    }

    /** Prints the figures, now that everything is done. */
    static void done() throws Exception {
        long[] now = clocks();
        if (seen != EVENTS) {
            throw new IllegalStateException("expected " + EVENTS + " events; saw " + seen);
        }
        System.out.println(String.format(Locale.ROOT,
                "{\"events\":%d,\"taken\":%.6f,\"cpu\":%.6f,\"warm_events\":%d,\"warm_taken\":%.6f,\"warm_cpu\":%.6f,"
                        + "\"process_cpu\":%.6f,\"rss_mb\":%.1f}",
                seen, seconds(begun, last, 0), seconds(begun, last, 1), EVENTS - EVENTS / 2, seconds(half, last, 0),
                seconds(half, last, 1), now[1] / 1e9, peakMb()));
        System.out.flush();
    }

    private static long[] clocks() {
        return new long[] {System.nanoTime(), SYSTEM.getProcessCpuTime()};
    }

    private static double seconds(long[] from, long[] to, int clock) {
        return (to[clock] - from[clock]) / 1e9;
    }

    private static double peakMb() throws Exception {
        Path status = Path.of("/proc/self/status");
        if (!Files.exists(status)) {
            return 0;
        }
        for (String line : Files.readAllLines(status)) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("\\D+", "")) / 1024.0;
            }
        }
        return 0;
    }
}
