"""A Faust app around a topology: one Faust agent per agent or aggregation, each reading blocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import faust
from faust.types import TP

from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App
from streamproc.runtime.groups import groups
from streamproc.runtime.runner import Runner
from streamproc.runtime.shared_tables import own_sources
from streamproc.runtime.transport.driver import BlockSchema
from streamproc.settings import KafkaSettings

_SESSION = 10.0  # seconds without a sign of life, after which the group gives a worker's partitions to others
_BUFFERED_BLOCKS = 2  # per agent: beyond that nothing is fetched, and what comes meanwhile makes bigger blocks


class SlimApp(faust.App):  # type: ignore[misc]
    """Makes no folders at its start: nothing of ours needs one, and a worker that is killed leaves none behind. Nor
    does it keep Faust's statistics of each event, which nobody reads.
    """

    source_groups: Mapping[str, str] = MappingProxyType({})  # see streamproc.runtime.groups

    def _create_directories(self) -> None:
        pass

    def on_init_dependencies(self) -> Any:
        found = super().on_init_dependencies()
        self.sensors.remove(self.monitor)
        return found


def build(
    app: App,
    runners: Mapping[str, Runner],
    kafka: KafkaSettings,
    *,
    failed: Callable[[Exception], None],
    assigned: Callable[[set[TP]], Awaitable[None]],
    instance: str | None = None,
) -> faust.App:
    """The Faust app, not started.

    Args:
        runners: by agent name.
        failed: called with the exception that must stop the worker.
        instance: this worker's name among the group's, if it keeps it over restarts: see :class:`Worker`.
        assigned: awaited when the group has given this worker its partitions.
    """
    faust_app = SlimApp(
        app.name,
        broker=[f"streamproc://{server.strip()}" for server in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        topic_disable_leader=True,
        topic_partitions=app.partitions,
        web_enabled=False,
        stream_buffer_maxsize=_BUFFERED_BLOCKS,
        stream_wait_empty=True,
        broker_commit_interval=0.5,
        broker_session_timeout=_SESSION,
        broker_heartbeat_interval=_SESSION / 5,
        consumer_group_instance_id=instance,
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        loghandlers=[],
    )
    faust_app.source_groups = groups(app)
    settled = asyncio.Event()  # what was assigned has its tasks and keepers; Faust lets events flow before that
    # Agents answer events, and somebody may wait; windows close when their time is over.
    agents_first = sorted(runners.items(), key=lambda item: isinstance(item[1].definition, Aggregation))
    for order, (name, runner) in enumerate(agents_first):
        _add_agent(faust_app, name, runner, order, failed, settled)

    generation: int | None = None  # of the group, when partitions were given last

    async def keep_assigned(_: Any, partitions: set[TP], **__: Any) -> None:
        nonlocal generation
        before, generation = generation, faust_app.consumer_generation_id
        if before is not None and generation != before + 1:
            # The group went on without this worker: others may have had its partitions and brought their state on.
            for runner in runners.values():
                await runner.keep(())
            await assigned(set())
        for runner in runners.values():
            have = [{tp.partition for tp in partitions if tp.topic == topic} for topic in runner.sources]
            await runner.keep(set.intersection(*have))
        await assigned(partitions)
        settled.set()

    async def let_go(*_: Any, **__: Any) -> None:
        settled.clear()

    faust_app.on_partitions_revoked.connect(let_go, weak=False)
    faust_app.on_partitions_assigned.connect(keep_assigned, weak=False)
    for hook in app.faust_hooks:
        hook(faust_app)
    faust_app.finalize()
    return faust_app


def _add_agent(
    faust_app: faust.App,
    name: str,
    runner: Runner,
    order: int,
    failed: Callable[[Exception], None],
    settled: asyncio.Event,
) -> None:
    async def run(stream: Any) -> None:
        # Blocks are acknowledged when Kafka has their results, not when the next one is asked for.
        async for event in stream.noack().events():
            await settled.wait()
            if event.message.generation_id != faust_app.consumer_generation_id:
                continue  # of partitions as they were assigned before: it comes again to whoever has its partition now
            try:
                await runner.take(event.value)
            except Exception as error:
                logging.getLogger("streamproc.worker").error("%s: %s", name, error)
                failed(error)
                raise

    schema = BlockSchema(order=order, paced=isinstance(runner.definition, Agent))
    for number, source in enumerate(own_sources(runner.definition)):
        topic = faust_app.topic(source.name, schema=schema, partitions=source.partitions)
        faust_app.agent(topic, name=f"streamproc.{name}{f'.{number}' if number else ''}")(run)


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.sasl:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=kafka.ssl_context(),
        )
    if kafka.tls:
        return faust.SSLCredentials(context=kafka.ssl_context())
    return None
