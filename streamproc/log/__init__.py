"""The log: ports, a twin in memory, Apache Kafka, and the embedded broker."""
