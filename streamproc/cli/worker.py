"""``streamproc worker``: runs a topology's agents."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import noun, takes_kafka
from streamproc.cli.serving import AdminPort, Host, RegistryOption, log_to_stderr, registry_url, say_up, serve
from streamproc.cli.topology import Topology, load_app
from streamproc.errors import ProducerFenced, Stalled
from streamproc.settings import KafkaSettings

if TYPE_CHECKING:
    from streamproc.runtime.metrics import WorkerMetrics
    from streamproc.runtime.worker import Worker

app = noun()
_log = logging.getLogger("streamproc.worker")


@app.command()
@takes_kafka
def worker(
    topology: Topology,
    kafka: KafkaSettings,
    registry: RegistryOption = None,
    host: Host = "127.0.0.1",
    admin_port: AdminPort = 0,
    replication: Annotated[int, typer.Option(help="Replication factor of the topics that it creates.")] = 1,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="STREAMPROC_STATE_DIR",
            help="A folder for snapshots of state, which shorten a restart, and for tables on disk.",
        ),
    ] = None,
    stall_after: Annotated[
        float, typer.Option(min=1.0, help="Seconds without progress where there is work, after which it starts anew.")
    ] = 120.0,
    instance: Annotated[
        str | None,
        typer.Option(
            envvar="STREAMPROC_INSTANCE",
            help="This worker's name, also after a restart: it gets its partitions back at once.",
        ),
    ] = None,
    serve_tables: Annotated[
        bool, typer.Option("--serve-tables", help="Serve the rows of tables on the admin port, to whoever reaches it.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run a topology's agents until Ctrl-C or SIGTERM. Several workers of one topology share its partitions."""
    log_to_stderr(verbose)
    definition = load_app(topology)
    from streamproc.admin import AdminServer
    from streamproc.avro.registry import open_registry
    from streamproc.runtime.table_pages import TablePages
    from streamproc.runtime.table_reader import TableReader
    from streamproc.runtime.worker import Worker

    async def work(told: asyncio.Event) -> None:
        running = made()
        pages = TablePages(definition, lambda: running.live_tables(), TableReader(definition, kafka).find)
        admin = AdminServer(
            running.metrics.registry,
            host=host,
            port=admin_port,
            ready=lambda: running.problems(),
            routes=pages.routes() if serve_tables else (),
        )
        await admin.start()
        try:
            while await _stalls(running, told, f"metrics on {admin.url}/metrics"):
                _log.warning("the worker starts anew, from what was kept")
                running = made(running.metrics)
        finally:
            await admin.stop()

    def made(metrics: WorkerMetrics | None = None) -> Worker:
        return Worker(
            definition,
            kafka,
            open_registry(registry_url(registry)),
            metrics=metrics,
            replication=replication,
            state_dir=state_dir,
            stall_after=stall_after,
            instance=instance,
        )

    serve(work)


async def _stalls(worker: Worker, told: asyncio.Event, where: str) -> bool:
    """Runs a worker until it is told to stop; True when it is to be started again, because it got on with nothing."""
    stopper = asyncio.create_task(_stop_when(told, worker))
    try:
        await worker.start()
        say_up(f"worker of {worker.app.name} is up; {where}")
        await worker.run()
    except (Stalled, ProducerFenced) as error:  # what a fresh start from what was kept can mend
        _log.error("%s", error)
        return not told.is_set()
    finally:
        stopper.cancel()
        await worker.stop()
        if worker.stuck:
            # Threads and tasks of Faust are left that do not mind being cancelled: the loop would wait for ever.
            typer.echo(f"error: {worker.failure or 'not stopped in order: Kafka does not answer'}", err=True)
            sys.stderr.flush()
            os._exit(1)
    return False


async def _stop_when(told: asyncio.Event, worker: Worker) -> None:
    await told.wait()
    worker.stop_soon()
