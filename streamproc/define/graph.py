"""A topology printed: as text for people, as Mermaid or Graphviz for pages."""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.define.aggregation import Aggregation
from streamproc.define.app import App, Stage
from streamproc.define.changes import ChangeStream
from streamproc.define.pipeline import Pipeline
from streamproc.define.topic import Channel, Topic


def text(app: App) -> str:
    """The topology as an indented tree: topics that nobody here writes first, and below each its readers and their
    sinks; then tables, and below each the channel of its changes. What lies below a topic is printed once.
    """
    written = {sink for agent in app.agents.values() for sink in agent.sinks}
    written |= {stream.channel for stream in _change_streams(app)}
    shown = _shown(app)
    done: set[Topic] = set()
    lines = [f"app {app.name}"]
    for topic in [t for t in shown if t not in written]:
        lines += _topic(app, topic, 1, done)
    for table in app.tables.values():
        lines.append(f"  table {table}")
        if table.change_stream is not None:
            lines += _topic(app, table.change_stream.channel, 2, done)
    for topic in shown:  # of a circle, every topic is written by somebody
        if topic not in done:
            lines += _topic(app, topic, 1, done)
    lines.append(f"  dead letters: {app.dead_letters.name}")
    return "\n".join(lines)


def _topic(app: App, topic: Topic, depth: int, done: set[Topic]) -> Iterator[str]:
    kind = "channel" if isinstance(topic, Channel) else "topic"
    facts = [f"{name}={value}" for name in ("key", "time", "id", "cause") if (value := getattr(topic, name, None))]
    facts.append(f"{topic.partitions} partition{'s' if topic.partitions > 1 else ''}")
    readers = app.readers(topic)
    again = " (see above)" if topic in done and readers else ""
    yield f"{'  ' * depth}{kind} {topic.name}: {topic.record.__name__} ({', '.join(facts)}){again}"
    if topic in done:
        return
    done.add(topic)
    for agent in readers:
        yield f"{'  ' * (depth + 1)}{_label(agent)}"
        for sink in agent.sinks:
            yield from _topic(app, sink, depth + 2, done)


def _label(agent: Stage) -> str:
    if isinstance(agent, Aggregation):
        return f"window {agent}"
    if isinstance(agent, Pipeline):
        return str(agent)
    policy = "" if agent.on_error == "dead_letter" else f" (on error: {agent.on_error})"
    return f"agent {agent.name}{policy}"


def mermaid(app: App) -> str:
    """The topology as a Mermaid flowchart. Nodes are numbered: a name may be a word of Mermaid's, such as ``end``."""
    lines = ["flowchart LR"]
    node: dict[Topic, str] = {}
    for i, topic in enumerate(_shown(app)):
        node[topic] = f"t{i}"
        shape = '(["{}"])' if isinstance(topic, Channel) else '[("{}")]'
        lines.append(f"  t{i}{shape.format(topic.name)}")
    for i, agent in enumerate(app.agents.values()):
        label = _label(agent).replace('"', "#quot;")
        lines.append(f'  a{i}["{label}"]')
        lines += [f"  {node[source]} --> a{i}" for source in agent.sources]
        lines += [f"  a{i} --> {node[sink]}" for sink in agent.sinks]
    for i, stream in enumerate(_change_streams(app)):
        label = f"table {stream.table.name}".replace('"', "#quot;")
        lines += [f'  c{i}[["{label}"]]', f"  c{i} --> {node[stream.channel]}"]
    return "\n".join(lines)


def dot(app: App) -> str:
    """The topology as a Graphviz digraph."""
    lines = [f'digraph "{app.name}" {{', "  rankdir=LR;"]
    for topic in _shown(app):
        shape = "ellipse" if isinstance(topic, Channel) else "cylinder"
        lines.append(f'  "{topic.name}" [shape={shape}];')
    for agent in app.agents.values():
        node, label = (_quoted(name) for name in (f"agent {agent.name}", _label(agent)))
        lines.append(f"  {node} [shape=box, label={label}];")
        lines += [f'  "{source.name}" -> {node};' for source in agent.sources]
        lines += [f'  {node} -> "{sink.name}";' for sink in agent.sinks]
    for stream in _change_streams(app):
        node = _quoted(f"table {stream.table.name}")
        lines += [f"  {node} [shape=folder];", f'  {node} -> "{stream.channel.name}";']
    return "\n".join([*lines, "}"])


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _shown(app: App) -> list[Topic]:
    """All topics; the dead letters' only where somebody reads or writes them."""
    used = {topic for agent in app.agents.values() for topic in (*agent.sources, *agent.sinks)}
    return [topic for topic in app.topics.values() if topic is not app.dead_letters or topic in used]


def _change_streams(app: App) -> list[ChangeStream]:
    return [table.change_stream for table in app.tables.values() if table.change_stream is not None]
