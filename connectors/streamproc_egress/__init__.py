"""The egress edge: results out of Kafka to the clients that subscribed to them."""

from streamproc_egress.egress import Egress

__all__ = ["Egress"]
