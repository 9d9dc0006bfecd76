import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/** Reads trades from Confluent's framing, by Avro's own fast reader into a record that is used again; for one thread. */
final class Trades {
    static final int SYMBOL = 0;
    static final int TS = 1;
    static final int PRICE = 2;
    private static final int FRAME = 5;
    private final GenericDatumReader<GenericRecord> reader;
    private BinaryDecoder decoder;
    private GenericRecord record;

    Trades() {
        String text = "{'type': 'string', 'avro.java.string': 'String'}";
        String schema = "{'type': 'record', 'name': 'Trade', 'fields': [{'name': 'symbol', 'type': " + text + "},"
                + "{'name': 'ts', 'type': 'long'}, {'name': 'price', 'type': 'double'},"
                + "{'name': 'size', 'type': 'double'}, {'name': 'venue', 'type': " + text + "}]}";
        Schema parsed = new Schema.Parser().parse(schema.replace('\'', '"'));
        GenericData data = new GenericData();
        data.setFastReaderEnabled(true);
        reader = new GenericDatumReader<>(parsed, parsed, data);
    }

    /** The trade of a Kafka value. With {@code fresh} the record is a new one, else the next call changes it. */
    GenericRecord read(byte[] value, boolean fresh) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(value, FRAME, value.length - FRAME, decoder);
            GenericRecord read = reader.read(fresh ? null : record, decoder);
            record = fresh ? record : read;
            return read;
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A window's result as 40 bytes: start, count, sum, greatest, mean. */
    static byte[] window(long start, long count, double sum, double greatest) {
        return ByteBuffer.allocate(40).putLong(start).putLong(count).putDouble(sum).putDouble(greatest)
                .putDouble(sum / count).array();
    }

    /** A running count as 16 bytes: the event time up to which it holds, and the count. */
    static byte[] count(long at, long count) {
        return ByteBuffer.allocate(16).putLong(at).putLong(count).array();
    }
}
