"""The ingest edge: what clients publish goes into Kafka, and they are told when Kafka has it."""

from streamproc_ingest.ingest import Ingest

__all__ = ["Ingest"]
