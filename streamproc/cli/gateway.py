"""``streamproc gateway``: serves a topology's topics and channels over WebSocket."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.options import noun, takes_kafka
from streamproc.cli.serving import AdminPort, Host, RegistryOption, log_to_stderr, registry_url, say_up, serve
from streamproc.cli.topology import Topology, load_app
from streamproc.errors import SettingsError
from streamproc.settings import KafkaSettings

app = noun()


@app.command()
@takes_kafka
def gateway(
    topology: Topology,
    kafka: KafkaSettings,
    registry: RegistryOption = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for WebSocket clients; 0 for a free one.")] = 8000,
    admin_port: AdminPort = 0,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Web pages that may connect, such as https://app.example.com; may be repeated; * for all. "
            "By default those of this machine, while --host is one of its own names. Other clients send no origin."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain in PEM: serve wss:// alone. Read again when it changes.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key in PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Only clients with a certificate of these authorities, in PEM, may connect.")
    ] = None,
    delivery_timeout: Annotated[
        float, typer.Option(help="Seconds after which an event that Kafka does not take is refused.")
    ] = 30.0,
    replication: Annotated[int, typer.Option(help="Replication factor of the topics that it creates.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Serve a topology's topics and channels over WebSocket until Ctrl-C or SIGTERM.

    There is no authentication in this version: whoever reaches the port may publish and subscribe, web pages of other
    origins excepted.
    """
    log_to_stderr(verbose)
    definition = load_app(topology)
    from streamproc.admin import AdminServer
    from streamproc.avro.registry import open_registry
    from streamproc.edge.origins import Origins
    from streamproc.edge.server import Gateway
    from streamproc.edge.tls import Certificates
    from streamproc.log.kafka import KafkaLog
    from streamproc.log.kafka_admin import KafkaAdmin
    from streamproc.runtime.topics import topic_specs

    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise SettingsError("TLS: expected --tls-cert and --tls-key together, and --tls-client-ca only beside them")
    certificates = Certificates(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None
    origins = Origins(origin) if origin else None

    async def work(told: asyncio.Event) -> None:
        topics = KafkaAdmin(kafka)
        try:
            await topics.ensure(topic_specs(definition, replication))
        finally:
            await topics.close()
        log = KafkaLog(kafka, delivery_timeout=delivery_timeout)
        running = Gateway(
            definition,
            log,
            open_registry(registry_url(registry)),
            host=host,
            port=port,
            origins=origins,
            certificates=certificates,
        )
        admin = AdminServer(
            running.metrics.registry, host=host, port=admin_port, ready=running.problems, healthy=running.ailing
        )
        await admin.start()
        try:
            await running.start()
            say_up(f"gateway of {definition.name} is at {running.url}; metrics on {admin.url}/metrics")
            await told.wait()
        finally:
            await running.stop()
            await admin.stop()

    serve(work)
