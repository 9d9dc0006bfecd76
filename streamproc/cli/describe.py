"""``streamproc describe``: prints a topology."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from streamproc.cli.options import noun
from streamproc.cli.topology import Topology, load_app

app = noun()


class Form(StrEnum):
    """How a topology is printed."""

    text = "text"
    mermaid = "mermaid"
    dot = "dot"


@app.command()
def describe(
    topology: Topology,
    graph: Annotated[Form, typer.Option(help="text, or a graph for Mermaid or Graphviz.")] = Form.text,
) -> None:
    """Print a topology: its topics, what reads them, and where results go. Nothing is run."""
    from streamproc.define import graph as graphs

    form = {Form.text: graphs.text, Form.mermaid: graphs.mermaid, Form.dot: graphs.dot}[graph]
    typer.echo(form(load_app(topology)))
