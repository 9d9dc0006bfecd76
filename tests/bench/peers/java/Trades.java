import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/**
 * Reads trades, or quotes, from Confluent's framing, by Avro's own fast reader into a record that is used again; for one
 * thread.
 */
final class Trades {
    static final int SYMBOL = 0;
    static final int TS = 1;
    static final int PRICE = 2;
    static final int BID = 2; // of a quote, whose first two fields are a trade's
    private static final int FRAME = 5;
    private static final String TEXT = "{'type': 'string', 'avro.java.string': 'String'}";
    private static final String SCHEMA = "{'type': 'record', 'name': 'Trade', 'fields': [{'name': 'symbol', 'type': " + TEXT
            + "}, {'name': 'ts', 'type': 'long'}, {'name': 'price', 'type': 'double'},"
            + "{'name': 'size', 'type': 'double'}, {'name': 'venue', 'type': " + TEXT + "}]}";
    private static final String QUOTE = "{'type': 'record', 'name': 'Quote', 'fields': [{'name': 'symbol', 'type': " + TEXT
            + "}, {'name': 'ts', 'type': 'long'}, {'name': 'bid', 'type': 'double'}, {'name': 'ask', 'type': 'double'}]}";
    private final GenericDatumReader<GenericRecord> reader;
    private BinaryDecoder decoder;
    private GenericRecord record;

    Trades() {
        this(SCHEMA);
    }

    private Trades(String schema) {
        Schema parsed = new Schema.Parser().parse(schema.replace('\'', '"'));
        GenericData data = new GenericData();
        data.setFastReaderEnabled(true);
        reader = new GenericDatumReader<>(parsed, parsed, data);
    }

    /** One that reads quotes. */
    static Trades quotes() {
        return new Trades(QUOTE);
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

    /** A trade with a quote as 32 bytes: its time, price, the quote's time, bid. */
    static byte[] quoted(long at, double price, long quoteAt, double bid) {
        return ByteBuffer.allocate(32).putLong(at).putDouble(price).putLong(quoteAt).putDouble(bid).array();
    }

    /** A running count as 16 bytes: the event time up to which it holds, and the count. */
    static byte[] count(long at, long count) {
        return ByteBuffer.allocate(16).putLong(at).putLong(count).array();
    }
}
