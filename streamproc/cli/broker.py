"""``streamproc broker``: an Apache Kafka in the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.running import StartProgress, until_stopped
from streamproc.errors import BrokerError

app = noun()


@app.command()
def broker(
    port: Annotated[int, typer.Option(help="The port for clients; 0 for a free one.")] = 9092,
    data: Annotated[
        Path | None, typer.Option(help="Folder to keep the data in. Without it, the data goes when the broker stops.")
    ] = None,
    heap_mb: Annotated[int, typer.Option(help="Java's heap, in MiB.")] = 256,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch and prepare its parts, and do not start it.")] = False,
) -> None:
    """Run an Apache Kafka on this machine until Ctrl-C or SIGTERM.

    It listens on loopback only. Its parts are fetched once, and are then used offline.
    """
    from streamproc.log.broker import BrokerConfig, EmbeddedBroker

    with until_stopped() as stopped:
        progress = StartProgress()
        kafka = EmbeddedBroker(BrokerConfig(data, port or None, heap_mb=heap_mb), progress=progress)
        try:
            with progress:
                if fetch:
                    kafka.fetch()
                    return
                kafka.start()
            kept = f"its data is in {kafka.config.data_dir}" if data else "its data goes when it stops"
            typer.echo(f"Apache Kafka is at {kafka.bootstrap}; {kept}. Ctrl-C stops it.")
            while kafka.pid is not None:
                time.sleep(0.3)
            raise BrokerError("\n  ".join(["Kafka ended by itself", *kafka.last_words()]))
        except KeyboardInterrupt:
            if not stopped.is_set():
                raise
        finally:
            kafka.stop()
