"""``streamproc agents``: a topology's agents, and how far behind they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from streamproc.cli import show
from streamproc.cli.options import Format, Output, noun, takes_kafka
from streamproc.cli.topology import Topology, load_app
from streamproc.errors import TopicError
from streamproc.settings import KafkaSettings

app = noun("List a topology's agents and how far behind they are.")


@app.command("list")
@takes_kafka
def list_(topology: Topology, kafka: KafkaSettings, output: Output = Format.table) -> None:
    """List agents and aggregations: what they read, where results go, and how many records they have not finished."""
    from streamproc.define.aggregation import Aggregation
    from streamproc.log.kafka_admin import KafkaAdmin

    definition = load_app(topology)

    async def lags() -> Mapping[str, int]:
        admin = KafkaAdmin(kafka)
        try:
            return await admin.lag(definition.name, sorted({a.source.name for a in definition.agents.values()}))
        except TopicError as error:
            raise TopicError(f"{error}: a worker or gateway makes its topology's topics when it starts") from None
        finally:
            await admin.close()

    behind = asyncio.run(lags())
    rows: list[dict[str, Any]] = []
    for agent in definition.agents.values():
        window = isinstance(agent, Aggregation)
        sinks = [agent.sink.name, agent.late.name] if isinstance(agent, Aggregation) else [s.name for s in agent.sinks]
        rows.append(
            {
                "agent": agent.name,
                "kind": "window" if window else "agent",
                "reads": agent.source.name,
                "writes": ", ".join(sinks) or "-",
                "partitions": agent.source.partitions,
                "lag": behind.get(agent.source.name, 0),
            }
        )
    show.rows(rows, output, ("agent", "kind", "reads", "writes", "partitions", "lag"))
