import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** Records of one schema in Confluent's framing: a zero, the schema's number in four bytes, the value as Avro. */
final class Framed {
    private static final int FRAME = 5;
    private final Schema schema;
    private final int id;

    Framed(String schema, int id) {
        this.schema = new Schema.Parser().parse(schema);
        this.id = id;
    }

    /** A record with these values, in the schema's order. */
    GenericRecord record(Object... values) {
        GenericRecord record = new GenericData.Record(schema);
        if (values.length != schema.getFields().size()) {
            throw new IllegalArgumentException("expected values for " + schema.getFields() + "; got " + values.length);
        }
        for (int i = 0; i < values.length; i++) {
            record.put(i, values[i]);
        }
        return record;
    }

    Serde<GenericRecord> serde() {
        Serializer<GenericRecord> serializer = (topic, record) -> record == null ? null : write(record);
        Deserializer<GenericRecord> deserializer = (topic, value) -> value == null ? null : read(value);
        return Serdes.serdeFrom(serializer, deserializer);
    }

    private byte[] write(GenericRecord record) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try {
            out.write(ByteBuffer.allocate(FRAME).put((byte) 0).putInt(id).array());
            BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, null);
            new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
        return out.toByteArray();
    }

    private GenericRecord read(byte[] value) {
        ByteBuffer frame = ByteBuffer.wrap(value);
        if (frame.get() != 0 || frame.getInt() != id) {
            throw new IllegalStateException("expected a value of schema " + id);
        }
        try {
            return new GenericDatumReader<GenericRecord>(schema)
                    .read(null, DecoderFactory.get().binaryDecoder(value, FRAME, value.length - FRAME, null));
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }
}
