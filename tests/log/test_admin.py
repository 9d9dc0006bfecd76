"""What an admin promises, held against the log in memory and against Kafka."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from streamproc.errors import BrokerError, BrokerUnavailable, SettingsError, TopicError
from streamproc.log import kafka_admin
from streamproc.log.broker import EmbeddedBroker
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.memory import MemoryLog
from streamproc.log.ports import TopicSpec
from streamproc.settings import KafkaSettings


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.e2e)])
async def admin(request):
    admin = MemoryLog().admin() if request.param == "memory" else KafkaAdmin(request.getfixturevalue("kafka"))
    yield admin
    await admin.close()


async def test_creates_what_is_missing_and_describes_it(admin, name):
    specs = [TopicSpec(f"{name}-a", 2, config={"cleanup.policy": "compact"}), TopicSpec(f"{name}-b", 1)]
    await admin.ensure(specs[:1])
    await admin.ensure(specs)
    await admin.ensure(specs)
    assert {f"{name}-a", f"{name}-b"} <= set(await admin.list())
    first, second = await admin.describe([f"{name}-a", f"{name}-b"])
    assert first == (f"{name}-a", 2, 1, (0, 0), (0, 0), {"cleanup.policy": "compact"})
    assert second == (f"{name}-b", 1, 1, (0,), (0,), {})


async def test_other_partitions_are_refused_with_both_counts(admin, name):
    await admin.ensure([TopicSpec(name, 2)])
    with pytest.raises(TopicError, match=f"'{name}' has 2 partitions; expected 3"):
        await admin.ensure([TopicSpec(f"{name}-new", 1), TopicSpec(name, 3)])


async def test_deleted_is_gone_and_can_be_made_again(admin, name):
    await admin.ensure([TopicSpec(name, 1)])
    await admin.delete([name])
    assert name not in await admin.list()
    await admin.ensure([TopicSpec(name, 2)])
    assert (await admin.describe([name]))[0].partitions == 2


async def test_unknown_names_are_told(admin, name):
    with pytest.raises(TopicError, match=name):
        await admin.describe([name])
    with pytest.raises(TopicError, match=name):
        await admin.delete([name])


@pytest.mark.e2e
class TestOnKafka:
    async def test_offsets_and_config_of_a_topic_that_is_there(self, kafka, name):
        from confluent_kafka import Producer

        admin = KafkaAdmin(kafka)
        await admin.ensure([TopicSpec(name, 2)])
        producer = Producer(kafka.librdkafka())
        producer.produce(name, b"x", partition=1)
        assert await asyncio.to_thread(producer.flush, 20) == 0
        await admin.ensure([TopicSpec(name, 2, config={"retention.ms": "1000"})])
        (info,) = await admin.describe([name])
        assert (info.begin, info.end, info.config) == ((0, 0), (0, 1), {"retention.ms": "1000"})

    async def test_nothing_is_created_when_one_is_wrong(self, kafka, name):
        admin = KafkaAdmin(kafka)
        await admin.ensure([TopicSpec(name, 2)])
        with pytest.raises(TopicError):
            await admin.ensure([TopicSpec(f"{name}-new", 1), TopicSpec(name, 3)])
        assert f"{name}-new" not in await admin.list()

    @pytest.mark.parametrize(
        ("spec", "told"),
        [
            (TopicSpec("a b", 1), "creating failed for 'a b': .*is invalid"),
            (TopicSpec("replicas", 1, 3), "creating failed for 'replicas': .*replication"),
            (TopicSpec("conf", 1, config={"no.such": "x"}), "creating failed for 'conf': .*no.such"),
        ],
    )
    async def test_what_kafka_refuses(self, kafka, spec, told):
        with pytest.raises(TopicError, match=told):
            await KafkaAdmin(kafka).ensure([spec])

    async def test_two_at_once(self, kafka, name):
        admins = [KafkaAdmin(kafka) for _ in range(4)]
        await asyncio.gather(*(admin.ensure([TopicSpec(name, 2)]) for admin in admins))
        assert (await admins[0].describe([name]))[0].partitions == 2

    async def test_a_broker_that_comes_back_in_time(self, name):
        broker = EmbeddedBroker()
        try:
            await asyncio.to_thread(broker.start)
            admin = KafkaAdmin(broker.settings, timeout=60)
            await admin.ensure([TopicSpec(name, 1)])
            broker.kill()
            listing = asyncio.create_task(admin.list())
            await asyncio.to_thread(broker.start)
            # The data of a temporary broker is kept over a kill.
            assert await listing == [name]
        finally:
            await asyncio.to_thread(broker.stop)


class Settling:
    """A cluster whose partitions have no leader yet: it says so to the first ``times`` questions for offsets."""

    def __init__(self, code, times):
        self.code, self.times, self.timeout = code, times, 0.5
        partitions = {0: SimpleNamespace(replicas=[1])}
        self.found = SimpleNamespace(topics={"a": SimpleNamespace(partitions=partitions)})
        self.client = self

    def metadata(self):
        return self.found

    def results(self, answers):
        return answers

    def list_offsets(self, asked):
        self.times -= 1
        return {at: KafkaError(self.code) if self.times >= 0 else SimpleNamespace(offset=7) for at in asked}

    def describe_configs(self, resources):
        return {resource: {} for resource in resources}


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_leaders_that_are_about_to_come_are_waited_for(code):
    assert kafka_admin._describe(Settling(code, 3), ["a"]) == [("a", 1, 1, (7,), (7,), {})]
    with pytest.raises(BrokerError, match=r"Kafka refused it: .*[Ll]eader"):
        kafka_admin._describe(Settling(code, 1_000_000), ["a"])


def test_what_will_not_pass_is_not_asked_again():
    cluster = Settling(KafkaError.TOPIC_AUTHORIZATION_FAILED, 1)
    with pytest.raises(BrokerError, match="authorization failed"):
        kafka_admin._describe(cluster, ["a"])
    assert cluster.times == 0


async def test_nobody_there():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        admin = KafkaAdmin(KafkaSettings(address), timeout=1)
        with pytest.raises(BrokerUnavailable, match=rf"no broker answers at {address} within 1 s \(.*refused.*\)"):
            await admin.list()


async def test_somebody_else_is_there():
    async def hang_up(_, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=f"no broker answers at {address}"):
            await KafkaAdmin(KafkaSettings(address), timeout=1).list()


async def test_settings_that_librdkafka_refuses(tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    settings = KafkaSettings(security_protocol="SSL", ssl_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(SettingsError, match=r"librdkafka refuses these settings: .*ssl\.ca\.location"):
        await KafkaAdmin(settings).list()
