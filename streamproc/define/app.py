"""The app: everything that a topology is made of, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, overload

from streamproc.define.agent import Agent, AgentFunction
from streamproc.define.aggregation import Aggregation
from streamproc.define.deadletter import DeadLetter
from streamproc.define.duration import Duration, milliseconds
from streamproc.define.errors import Policy
from streamproc.define.pipeline import Pipeline
from streamproc.define.table import Store, Table
from streamproc.define.topic import Channel, Topic
from streamproc.errors import DefinitionError
from streamproc.record import Record

Guarantee = Literal["at_least_once", "exactly_once"]
V = TypeVar("V")
F = TypeVar("F", bound=AgentFunction)
T = TypeVar("T", bound=Topic)

#: All that reads topics.
Stage = Agent | Aggregation | Pipeline


class App:
    """A topology: topics, channels, flows, windows, tables and agents. Inert; the worker and the gateway run it.

    Args:
        name: also the consumer group's, so two apps of one name share the work.
        partitions: how many partitions its topics are created with, unless they say otherwise.
        guarantee: what results are worth after a crash. State is exact either way.
            ``"at_least_once"``: a result is sent at once, and may be sent again.
            ``"exactly_once"``: it is sent once, with the state that it belongs to, up to ``flush`` later; readers must
            read what is committed, as all of the platform do.
        flush: how often state is kept, at most. None: never; it is in memory only, and gone with the worker.
    """

    def __init__(
        self,
        name: str,
        *,
        partitions: int = 4,
        guarantee: Guarantee = "at_least_once",
        flush: Duration | None = "100ms",
    ) -> None:
        if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name)):
            raise DefinitionError(
                f"app: expected a name of 1 to 100 lower-case letters, digits and . _ -, not beginning with . _ or -; "
                f"got {name!r}"
            )
        if guarantee not in get_args(Guarantee):
            raise DefinitionError(f"app: expected a guarantee of {' or '.join(get_args(Guarantee))}; got {guarantee!r}")
        self.name = name
        self.partitions = partitions
        self.guarantee: Guarantee = guarantee
        self.flush = None if flush is None else milliseconds(flush, "app, flush")
        if guarantee == "exactly_once" and flush is None:
            raise DefinitionError("app: exactly_once sends results with the state that is kept: give it a flush")
        self._topics: dict[str, Topic] = {}
        self._tables: dict[str, Table[Any]] = {}
        self._agents: dict[str, Stage] = {}
        self._faust: list[Callable[[Any], None]] = []
        self.dead_letters = self.topic(
            f"{name}-dead-letters", DeadLetter, time="time", partitions=1, publish=False, ahead=None
        )

    def topic(
        self,
        name: str,
        record: type[Record],
        *,
        key: str | None = None,
        time: str | None = None,
        id: str | None = None,
        partitions: int | None = None,
        config: Mapping[str, str] = MappingProxyType({}),
        publish: bool = True,
        ahead: Duration | None = "1d",
    ) -> Topic:
        """Declares a topic; its arguments are :class:`~streamproc.define.topic.Topic`'s."""
        most = None if ahead is None or time is None else milliseconds(ahead, f"topic {name!r}, ahead")
        count = self._count(partitions)
        return self._declare(Topic(self, name, record, key, time, id, count, config, publish, most))

    def channel(
        self,
        name: str,
        record: type[Record],
        *,
        key: str | None = None,
        time: str | None = None,
        cause: str | None = None,
        partitions: int | None = None,
        config: Mapping[str, str] = MappingProxyType({}),
    ) -> Channel:
        """Declares a channel: a Kafka topic of results, and what WebSocket clients subscribe to under the same name."""
        return self._declare(
            Channel(self, name, record, key, time, None, self._count(partitions), config, publish=False, cause=cause)
        )

    @overload
    def table(
        self,
        name: str,
        default: Callable[[], V],
        *,
        key: Any = str,
        value: Any = None,
        ttl: Duration | None = None,
        volatile: bool = False,
        store: Store = "memory",
    ) -> Table[V]: ...

    @overload
    def table(
        self,
        name: str,
        default: None = None,
        *,
        key: Any = str,
        value: type[V],
        ttl: Duration | None = None,
        store: Store = "memory",
    ) -> Table[V]: ...

    @overload
    def table(
        self,
        name: str,
        default: None = None,
        *,
        key: Any = str,
        value: Any = None,
        ttl: Duration | None = None,
        volatile: bool = False,
        store: Store = "memory",
    ) -> Table[Any]: ...

    def table(
        self,
        name: str,
        default: Callable[[], Any] | None = None,
        *,
        key: Any = str,
        value: Any = None,
        ttl: Duration | None = None,
        volatile: bool = False,
        store: Store = "memory",
    ) -> Table[Any]:
        """Declares a table: keyed state of the agents that use it. Its arguments are
        :class:`~streamproc.define.table.Table`'s.
        """
        if name in self._tables:
            raise DefinitionError(f"table {name!r} is declared twice")
        table: Table[Any] = Table(name, default, key=key, value=value, ttl=ttl, volatile=volatile, store=store)
        if store == "disk" and self.flush is None:
            said = "its store has what the changelog has, and the app has flush=None: so nothing is ever kept"
            raise DefinitionError(f"table {name!r}: {said}")
        self._tables[name] = table
        table.app = self
        return table

    def agent(
        self,
        source: Topic,
        *,
        sink: Topic | Sequence[Topic] | None = None,
        name: str | None = None,
        on_error: Policy = "dead_letter",
    ) -> Callable[[F], F]:
        """Decorates an async function over a stream of ``source``'s events; what it yields goes to ``sink``.

        Args:
            on_error: what becomes of an event that raises: ``"dead_letter"`` puts it aside and goes on, ``"stop"`` ends
                the worker, :func:`~streamproc.define.errors.retry` tries it again first.
        """
        sinks = () if sink is None else (sink,) if isinstance(sink, Topic) else tuple(sink)
        for topic in (source, *sinks):
            if not isinstance(topic, Topic) or self._topics.get(topic.name) is not topic:
                found = f"topic {topic.name!r} of another" if isinstance(topic, Topic) else repr(topic)
                raise DefinitionError(f"agent: expected a topic of app {self.name!r}; got {found}")

        def declare(function: F) -> F:
            self.add(Agent(name or str(getattr(function, "__name__", "agent")), source, sinks, function, on_error))
            return function

        return declare

    def faust(self, build: Callable[[Any], None]) -> Callable[[Any], None]:
        """Decorates a function that gets the worker's ``faust.App``, to define plain Faust agents, timers and pages
        in it.

        Plain agents see one event at a time, of any topic, as under Faust's own transport.
        """
        self._faust.append(build)
        return build

    def add(self, agent: Stage) -> None:
        """Adds a stage; their names share one space."""
        if agent.name in self._agents:
            raise DefinitionError(f"the name {agent.name!r} is taken: another stage of this app has it")
        self._agents[agent.name] = agent

    def _count(self, partitions: int | None) -> int:
        return self.partitions if partitions is None else partitions

    def _declare(self, topic: T) -> T:
        if topic.name in self._topics:
            raise DefinitionError(f"topic {topic.name!r} is declared twice")
        self._topics[topic.name] = topic
        return topic

    @property
    def topics(self) -> Mapping[str, Topic]:
        """All topics, channels among them."""
        return MappingProxyType(self._topics)

    @property
    def publishable(self) -> Mapping[str, Topic]:
        """The topics that WebSocket clients may publish to."""
        return {name: topic for name, topic in self._topics.items() if topic.publish}

    @property
    def channels(self) -> Mapping[str, Channel]:
        """What WebSocket clients may subscribe to."""
        return {name: topic for name, topic in self._topics.items() if isinstance(topic, Channel)}

    @property
    def tables(self) -> Mapping[str, Table[Any]]:
        return MappingProxyType(self._tables)

    @property
    def agents(self) -> Mapping[str, Stage]:
        """Agents, aggregations and pipelines: all that reads topics."""
        return MappingProxyType(self._agents)

    @property
    def faust_hooks(self) -> Sequence[Callable[[Any], None]]:
        """The functions given to :meth:`faust`."""
        return tuple(self._faust)

    def readers(self, topic: Topic) -> list[Stage]:
        """Who reads a topic."""
        return [agent for agent in self._agents.values() if topic in agent.sources]

    def __repr__(self) -> str:
        return f"App({self.name!r}: {len(self._topics)} topics, {len(self._agents)} agents)"

    def __str__(self) -> str:
        from streamproc.define.graph import text  # printing is not part of every worker's start

        return text(self)
