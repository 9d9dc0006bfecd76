"""``streamproc worker``: runs a topology's agents."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from streamproc.cli.options import noun, takes_kafka
from streamproc.cli.serving import AdminPort, Host, RegistryOption, log_to_stderr, registry_url, say_up, serve
from streamproc.cli.topology import Topology, load_app
from streamproc.settings import KafkaSettings

app = noun()


@app.command()
@takes_kafka
def worker(
    topology: Topology,
    kafka: KafkaSettings,
    registry: RegistryOption = None,
    host: Host = "127.0.0.1",
    admin_port: AdminPort = 0,
    replication: Annotated[int, typer.Option(help="Replication factor of the topics that it creates.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run a topology's agents until Ctrl-C or SIGTERM. Several workers of one topology share its partitions."""
    log_to_stderr(verbose)
    definition = load_app(topology)
    from streamproc.admin import AdminServer
    from streamproc.avro.registry import open_registry
    from streamproc.runtime.worker import Worker

    async def work(told: asyncio.Event) -> None:
        running = Worker(definition, kafka, open_registry(registry_url(registry)), replication=replication)
        admin = AdminServer(running.metrics.registry, host=host, port=admin_port, ready=running.problems)
        await admin.start()
        stopper = asyncio.create_task(_stop_when(told, running))
        try:
            await running.start()
            say_up(f"worker of {definition.name} is up; metrics on {admin.url}/metrics")
            await running.run()
        finally:
            stopper.cancel()
            await running.stop()
            await admin.stop()
            if running.stuck:
                # Threads and tasks of Faust are left that do not mind being cancelled: the loop would wait for ever.
                typer.echo(f"error: {running.failure or 'not stopped in order: Kafka does not answer'}", err=True)
                sys.stderr.flush()
                os._exit(1)

    async def _stop_when(told: asyncio.Event, running: Worker) -> None:
        await told.wait()
        running.stop_soon()

    serve(work)
