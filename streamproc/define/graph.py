"""A topology printed: as text for people, as Mermaid or Graphviz for pages."""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.define.agent import Agent
from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App
from streamproc.define.topic import Channel, Topic


def text(app: App) -> str:
    """The topology as an indented tree: topics that nobody here writes first, and below each its readers and their
    sinks.
    """
    written = {sink for agent in app.agents.values() for sink in _sinks(agent)}
    lines = [f"app {app.name}"]
    for topic in app.topics.values():
        if topic not in written and topic is not app.dead_letters:
            lines += _topic(app, topic, 1, ())
    if app.tables:
        lines.append("  tables: " + ", ".join(app.tables))
    lines.append(f"  dead letters: {app.dead_letters.name}")
    return "\n".join(lines)


def _topic(app: App, topic: Topic, depth: int, path: tuple[Topic, ...]) -> Iterator[str]:
    kind = "channel" if isinstance(topic, Channel) else "topic"
    facts = [f"{name}={value}" for name in ("key", "time", "id", "cause") if (value := getattr(topic, name, None))]
    facts.append(f"{topic.partitions} partitions")
    yield f"{'  ' * depth}{kind} {topic.name}: {topic.record.__name__} ({', '.join(facts)})"
    if topic in path:  # a loop; it is printed above
        return
    for agent in app.readers(topic):
        yield f"{'  ' * (depth + 1)}{_label(agent)}"
        for sink in _sinks(agent):
            yield from _topic(app, sink, depth + 2, (*path, topic))


def _label(agent: Agent | Aggregation) -> str:
    return f"window {agent}" if isinstance(agent, Aggregation) else f"agent {agent.name}"


def _sinks(agent: Agent | Aggregation) -> tuple[Topic, ...]:
    return (agent.sink, agent.late) if isinstance(agent, Aggregation) else agent.sinks


def mermaid(app: App) -> str:
    """The topology as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for topic in _shown(app):
        shape = '(["{}"])' if isinstance(topic, Channel) else '[("{}")]'
        lines.append(f"  {_id(topic.name)}{shape.format(topic.name)}")
    for agent in app.agents.values():
        node = f"agent_{_id(agent.name)}"
        lines.append(f'  {node}["{_label(agent)}"]')
        lines.append(f"  {_id(agent.source.name)} --> {node}")
        lines += [f"  {node} --> {_id(sink.name)}" for sink in _sinks(agent)]
    return "\n".join(lines)


def dot(app: App) -> str:
    """The topology as a Graphviz digraph."""
    lines = [f'digraph "{app.name}" {{', "  rankdir=LR;"]
    for topic in _shown(app):
        shape = "ellipse" if isinstance(topic, Channel) else "cylinder"
        lines.append(f'  "{topic.name}" [shape={shape}];')
    for agent in app.agents.values():
        lines.append(f'  "agent {agent.name}" [shape=box, label="{_label(agent)}"];')
        lines.append(f'  "{agent.source.name}" -> "agent {agent.name}";')
        lines += [f'  "agent {agent.name}" -> "{sink.name}";' for sink in _sinks(agent)]
    return "\n".join([*lines, "}"])


def _shown(app: App) -> list[Topic]:
    return [topic for topic in app.topics.values() if topic is not app.dead_letters]


def _id(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
