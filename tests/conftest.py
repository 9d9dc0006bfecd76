"""What every test may ask for. A real Kafka is started once per session, and only when a test wants it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings

from streamproc.log.broker import EmbeddedBroker
from streamproc.settings import KafkaSettings

settings.register_profile("any machine", deadline=None)  # no test asserts times
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    """A real Apache Kafka, shared by all tests: leave it running, and give your topics names of their own."""
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def kafka(broker: EmbeddedBroker) -> KafkaSettings:
    """How to reach the shared broker."""
    return broker.settings


@pytest.fixture
def name() -> str:
    """A short prefix for topics, groups and transactional ids that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"
