"""What holds for a topic, on a real Kafka."""

from __future__ import annotations

import pytest

from streamproc.errors import BrokerUnavailable, TopicError
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.log.ports import TopicSpec
from streamproc.settings import KafkaSettings

pytestmark = pytest.mark.e2e


async def test_settings_are_those_that_hold_wherever_they_were_set(kafka, name):
    admin = KafkaAdmin(kafka)
    await admin.ensure([TopicSpec(name, 1, config={"cleanup.policy": "compact"}), TopicSpec(f"{name}-2", 1)])
    found = await admin.settings([f"{name}-2", name])
    assert [found[name]["cleanup.policy"], found[f"{name}-2"]["cleanup.policy"]] == ["compact", "delete"]
    assert found[name]["delete.retention.ms"] == "86400000"
    assert await admin.settings([]) == {}
    with pytest.raises(TopicError, match="nowhere"):
        await admin.settings([name, "nowhere"])
    await admin.close()


async def test_a_topic_that_is_made_anew_has_another_id(kafka, name):
    admin = KafkaAdmin(kafka)
    spec = TopicSpec(name, 1)
    await admin.ensure([spec, TopicSpec(f"{name}-2", 1)])
    before = await admin.ids([name, f"{name}-2"])
    assert before[name] != before[f"{name}-2"]
    assert await admin.ids([name, f"{name}-2"]) == before
    await admin.delete([name])
    await admin.ensure([spec])
    after = await admin.ids([name, f"{name}-2"])
    assert after[name] != before[name]
    assert after[f"{name}-2"] == before[f"{name}-2"]
    assert await admin.ids([]) == {}
    with pytest.raises(TopicError, match="nowhere"):
        await admin.ids(["nowhere"])
    await admin.close()


async def test_nobody_answers():
    admin = KafkaAdmin(KafkaSettings("127.0.0.1:1"), timeout=0.5)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1"):
        await admin.ids(["t"])
