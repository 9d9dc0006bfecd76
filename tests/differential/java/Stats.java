import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Count, sum, least, greatest and, by Welford's method, the sum of squared deviations of doubles in their order. */
final class Stats {
    private static final int BYTES = 48;
    long count;
    double sum;
    double least = Double.POSITIVE_INFINITY;
    double greatest = Double.NEGATIVE_INFINITY;
    private double mean;
    private double squares;

    Stats add(double value) {
        count++;
        sum += value;
        least = Math.min(least, value);
        greatest = Math.max(greatest, value);
        double off = value - mean;
        mean += off / count;
        squares += off * (value - mean);
        return this;
    }

    /** Both together, by Chan's formula. */
    static Stats merge(Stats one, Stats other) {
        Stats both = new Stats();
        both.count = one.count + other.count;
        both.sum = one.sum + other.sum;
        both.least = Math.min(one.least, other.least);
        both.greatest = Math.max(one.greatest, other.greatest);
        if (both.count > 0) {
            double off = other.mean - one.mean;
            both.mean = one.mean + off * other.count / both.count;
            both.squares = one.squares + other.squares + off * off * one.count * other.count / both.count;
        }
        return both;
    }

    double mean() {
        return sum / count;
    }

    double variance() {
        return squares / count;
    }

    static Serde<Stats> serde() {
        return Serdes.serdeFrom((topic, stats) -> stats == null ? null : stats.bytes(),
                (topic, bytes) -> bytes == null ? null : of(ByteBuffer.wrap(bytes)));
    }

    private byte[] bytes() {
        return ByteBuffer.allocate(BYTES).putLong(count).putDouble(sum).putDouble(least).putDouble(greatest)
                .putDouble(mean).putDouble(squares).array();
    }

    private static Stats of(ByteBuffer bytes) {
        Stats stats = new Stats();
        stats.count = bytes.getLong();
        stats.sum = bytes.getDouble();
        stats.least = bytes.getDouble();
        stats.greatest = bytes.getDouble();
        stats.mean = bytes.getDouble();
        stats.squares = bytes.getDouble();
        return stats;
    }
}
