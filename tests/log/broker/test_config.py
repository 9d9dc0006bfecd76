from pathlib import Path

import pytest

from streamproc.errors import SettingsError
from streamproc.log.broker import BrokerConfig, Listener
from streamproc.log.broker.config import PORTS, free_port, port_in_use, server_properties, to_text

DECIDED = BrokerConfig(Path("/data"), 9092, 9093)


def test_listens_on_loopback_only():
    properties = server_properties(DECIDED)
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert properties["auto.create.topics.enable"] == "false"


def test_a_listener_brings_its_properties():
    config = BrokerConfig(Path("/data"), 1, 2, listeners=(Listener("LOCKED", 3, "SSL", {"ssl.client.auth": "none"}),))
    properties = server_properties(config)
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1,LOCKED://127.0.0.1:3"
    assert properties["listener.security.protocol.map"] == "PLAINTEXT:PLAINTEXT,LOCKED:SSL,CONTROLLER:PLAINTEXT"
    assert properties["listener.name.locked.ssl.client.auth"] == "none"


def test_one_of_several():
    voters = ("1@127.0.0.1:11", "2@127.0.0.1:12")
    config = BrokerConfig(Path("/data"), 2, 12, node=2, voters=voters, listeners=(Listener("FAR", 3, advertised=4),))
    properties = server_properties(config)
    assert properties["node.id"] == "2"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:12"
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:2,FAR://127.0.0.1:3,CONTROLLER://127.0.0.1:12"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:2,FAR://127.0.0.1:4"


def test_extra_wins():
    config = BrokerConfig(Path("/data"), 1, 2, extra={"num.io.threads": "9", "own": "x"})
    assert server_properties(config)["num.io.threads"] == "9"
    assert server_properties(config)["own"] == "x"


@pytest.mark.parametrize("config", [BrokerConfig(), BrokerConfig(Path("/data"), 1), BrokerConfig(port=1)])
def test_undecided_is_refused(config):
    with pytest.raises(SettingsError, match="needs data_dir, port and controller_port"):
        server_properties(config)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"port": 0}, "port: expected 1 to 65535; got 0"),
        ({"controller_port": 70000}, "controller_port: .* got 70000"),
        ({"heap_mb": 16}, "heap_mb: Kafka needs 128 or more; got 16"),
    ],
)
def test_wrong_values(arguments, told):
    with pytest.raises(SettingsError, match=told):
        BrokerConfig(**arguments)


def test_properties_keep_line_ends_and_backslashes():
    assert to_text({"pem": "a\nb\\c"}) == "pem=a\\nb\\\\c\n"


def test_a_free_port_is_free_and_not_ephemeral():
    port = free_port()
    assert port in PORTS
    assert not port_in_use(port)
