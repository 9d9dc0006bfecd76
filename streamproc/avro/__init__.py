"""Avro: rows, blocks, registries, compatibility."""
