"""The embedded broker, for real: every test here starts a Java."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamproc.errors import BrokerStartError
from streamproc.log.broker import BrokerConfig, EmbeddedBroker
from streamproc.log.broker.config import HOST

pytestmark = pytest.mark.e2e


def client(broker, **more):
    return {**broker.settings.librdkafka(), "log_level": 0, **more}


def create(broker, topic):
    admin = AdminClient(client(broker))
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)


def produce(broker, topic, *values, **more):
    producer = Producer(client(broker, **more))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def values(broker, topic, count, **more):
    """The first ``count`` values of a topic's only partition."""
    consumer = Consumer(client(broker, **{"group.id": "g", "enable.auto.commit": False, **more}))
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, 20)]
    finally:
        consumer.close()


def gone(pid):
    """Whether a process ends; it need not be our child."""
    for _ in range(600):
        try:
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
            os.kill(pid, 0)
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_comes_up_answers_and_leaves_nothing():
    broker = EmbeddedBroker()
    with broker:
        folder, pid = broker.config.data_dir, broker.pid
        create(broker, "a")
        produce(broker, "a", b"1")
        assert values(broker, "a", 1) == [b"1"]
        assert os.getsid(pid) != os.getsid(0)  # Ctrl-C in our terminal is not for it
        assert "ERROR" not in broker.log_file.read_text()
    assert not folder.exists()
    assert gone(pid)
    assert broker.pid is None
    broker.stop()


def test_data_and_address_outlive_a_stop_a_restart_and_a_kill(tmp_path):
    broker = EmbeddedBroker(data_dir=tmp_path / "data")
    with broker:
        address = broker.bootstrap
        create(broker, "a")
        produce(broker, "a", b"1")
        broker.restart()
        produce(broker, "a", b"2")
        broker.kill()
        assert broker.pid is None
        broker.start()
        assert broker.bootstrap == address
        assert values(broker, "a", 2) == [b"1", b"2"]
    with EmbeddedBroker(data_dir=tmp_path / "data") as other:
        assert values(other, "a", 2) == [b"1", b"2"]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec(broker, name, codec):
    create(broker, name)
    # Kafka itself must decompress and compress again when the topic asks for another codec than the producer's.
    admin = AdminClient(client(broker))
    other = "zstd" if codec == "gzip" else "gzip"
    for topic, config in ((f"{name}-same", {}), (f"{name}-other", {"compression.type": other})):
        admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(20)
        produce(broker, topic, b"x" * 1000, b"y" * 1000, **{"compression.type": codec, "linger.ms": 50})
        assert values(broker, topic, 2) == [b"x" * 1000, b"y" * 1000]


def test_transactions_hide_what_was_aborted(broker, name):
    create(broker, name)
    producer = Producer(client(broker, **{"transactional.id": name}))
    producer.init_transactions(20)
    for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(20)
        end(20)
    assert values(broker, name, 1, **{"isolation.level": "read_committed"}) == [b"yes"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_both_group_protocols(broker, name, protocol):
    create(broker, name)
    produce(broker, name, b"1")
    config = {"group.id": name, "group.protocol": protocol, "auto.offset.reset": "earliest"}
    consumer = Consumer(client(broker, **config))
    try:
        consumer.subscribe([name])
        assert [message.value() for message in consumer.consume(1, 20)] == [b"1"]
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def test_a_port_in_use_is_named():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        broker = EmbeddedBroker(port=port)
        with pytest.raises(BrokerStartError, match=f"port {port} is in use: choose another"):
            broker.start()
    assert broker.pid is None


def test_one_data_folder_for_two_is_refused(tmp_path):
    with EmbeddedBroker(data_dir=tmp_path), pytest.raises(BrokerStartError, match="another broker runs on this data"):
        EmbeddedBroker(data_dir=tmp_path).start()


def test_a_refused_property_is_told_with_the_log():
    with pytest.raises(BrokerStartError) as caught:
        EmbeddedBroker(BrokerConfig(extra={"num.io.threads": "many"})).start()
    assert "a property was given that Kafka refuses" in str(caught.value)
    assert "num.io.threads" in str(caught.value)
    assert "\tat " not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerStartError, match=r"data folder .* cannot be written"):
        EmbeddedBroker(data_dir=tmp_path / "file").start()


def test_one_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("streamproc.log.broker.process.STOP_TIMEOUT", 0.5)
    broker = EmbeddedBroker().start()
    pid, folder = broker.pid, broker.config.data_dir
    os.kill(pid, signal.SIGSTOP)
    broker.stop()
    assert gone(pid)
    assert not folder.exists()


PARENT = """
import os, sys, time
from streamproc.log.broker import EmbeddedBroker
broker = EmbeddedBroker(data_dir=sys.argv[1] or None).start()
print(broker.pid, broker.config.data_dir, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kept", [True, False])
def test_dies_with_its_parent(tmp_path, kept):
    data = str(tmp_path / "data") if kept else ""
    with subprocess.Popen([sys.executable, "-c", PARENT, data], stdout=subprocess.PIPE, text=True) as parent:
        try:
            pid, folder = parent.stdout.readline().split()
        finally:
            parent.kill()
    ended = gone(int(pid))
    if not ended:
        os.kill(int(pid), signal.SIGKILL)
    assert ended
    for _ in range(600):
        if kept or not Path(folder).exists():
            break
        time.sleep(0.1)
    assert Path(folder).exists() == kept
