"""The benchmark: the real worker against a real Kafka, on jobs whose every result is compared with a reference."""
