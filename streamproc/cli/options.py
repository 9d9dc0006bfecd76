"""Options that commands share: how to reach Kafka, and how to print."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from streamproc.settings import PREFIX, KafkaSettings

_PANEL = "Kafka"
_HELP = {
    "bootstrap": "HOST:PORT of one or more brokers, comma separated.",
    "security_protocol": "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    "sasl_mechanism": "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    "sasl_username": "The user.",
    "sasl_password": "The password. Better given in the environment: others can see this machine's command lines.",
    "ssl_ca": "PEM file with the authorities to trust; the system's by default.",
    "ssl_cert": "PEM file with the client's certificate.",
    "ssl_key": "PEM file with the client's private key.",
}


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]


def noun(help: str = "") -> typer.Typer:
    """The Typer of one noun's file. With a single command and no help of its own, the noun itself is the command."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    if help:
        app.callback(help=help, invoke_without_command=True)(help_without_command)
    return app


def help_without_command(ctx: typer.Context) -> None:
    """Shows what there is, and counts as wrong use, where a command is missing."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)


def takes_kafka(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options for reaching Kafka, and itself one ``kafka: KafkaSettings`` made of them."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "kafka"]
    shared = [*map(_text_option, _HELP), _hostname_option()]

    @functools.wraps(command)
    def with_kafka(**given: Any) -> None:
        values = {parameter.name: given.pop(parameter.name) for parameter in shared}
        command(**given, kafka=KafkaSettings.load(**values))

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *shared]]
    with_kafka.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_kafka.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del with_kafka.__wrapped__
    return with_kafka


def _text_option(name: str) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}", envvar=PREFIX + name.upper(), help=_HELP[name], rich_help_panel=_PANEL
    )
    return _parameter(name, Annotated[str | None, option])


def _hostname_option() -> inspect.Parameter:
    name = "ssl_check_hostname"
    option = typer.Option(
        "--ssl-check-hostname/--no-ssl-check-hostname",
        envvar=PREFIX + name.upper(),
        help="Whether the broker's certificate must name its host.",
        rich_help_panel=_PANEL,
    )
    return _parameter(name, Annotated[bool | None, option])


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
