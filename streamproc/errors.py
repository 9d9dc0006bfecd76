"""Every error that the platform raises on purpose, in one tree.

::

    StreamprocError
    ├── SettingsError            a setting is missing or wrong
    ├── DefinitionError          a topology is wrong; raised where it is written, before any broker is touched
    ├── SchemaError
    │   ├── SchemaNotFound       no file, subject or id of that name
    │   ├── SchemaMismatch       a record type and its schema disagree
    │   └── IncompatibleSchema   a change that would break readers or writers
    ├── RecordError              one record is bad; its neighbours are not
    │   ├── InvalidRecord        it does not fit its schema (names the field)
    │   ├── UndecodableRecord    its bytes are not what its framing says
    │   ├── OversizedRecord      its topic does not take so many bytes
    │   ├── TimeAhead            its event time is too far ahead of when it was taken in
    │   └── AggregateError       an aggregate of one's own refused it, or failed to make it
    ├── Stalled                  a worker has work, and gets on with none of it
    ├── StateError               kept state cannot be read, or is of another kind; it is never misread
    └── BrokerError
        ├── BrokerUnavailable    nobody answers at that address
        ├── ProducerFenced       another one writes in its place
        ├── BrokerStartError     the embedded broker did not come up
        └── TopicError           a topic cannot be made, changed or found as asked

A message says what was found and what was expected, and where there is one, what to do.
"""

from __future__ import annotations


class StreamprocError(Exception):
    """Anything that this platform raises on purpose. The command line prints it without a traceback."""

    exit_code = 1


class SettingsError(StreamprocError):
    """A setting is missing or wrong."""

    exit_code = 2


class DefinitionError(StreamprocError):
    """A topology is wrong as written."""

    exit_code = 2


class SchemaError(StreamprocError):
    """Something about a schema."""


class SchemaNotFound(SchemaError):
    """No schema file, subject or id of that name."""


class SchemaMismatch(SchemaError, DefinitionError):
    """A record type and the schema that it is bound to disagree."""

    exit_code = 2


class IncompatibleSchema(SchemaError):
    """A schema change that would break readers or writers of the data that is there. ``problems`` names each field."""

    def __init__(self, subject: str, problems: list[str]) -> None:
        self.subject = subject
        self.problems = problems
        super().__init__(f"schema change for {subject!r} refused: " + "; ".join(problems))


class RecordError(StreamprocError):
    """One record is bad. ``reason`` is a short, stable word for metrics and dead letters."""

    reason = "bad_record"


class InvalidRecord(RecordError):
    """A record that does not fit its schema. ``field`` is the dotted path of what is wrong, or empty."""

    reason = "invalid"

    def __init__(self, message: str, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class UndecodableRecord(RecordError):
    """Bytes that are not what their framing says: a short header, an unknown schema id, a truncated or overlong
    datum.
    """

    reason = "undecodable"


class OversizedRecord(RecordError):
    """A record of more bytes than its topic takes."""

    reason = "too_large"

    def __init__(self, topic: str, size: int, most: int, what: str = "") -> None:
        said = f"a record{what and ' ' + what} of about {size:,} bytes"
        super().__init__(f"{said} for {topic}, which takes {most:,} (its max.message.bytes)")


class TimeAhead(RecordError):
    """An event time so far beyond the moment at which the event was taken in that it must be wrong."""

    reason = "time_ahead"


class AggregateError(RecordError):
    """An event that an aggregate of one's own did not take, or a result that it did not give."""

    reason = "aggregate_error"


class StateError(StreamprocError):
    """State that was kept cannot be read back, or means something else than what would be read."""


class Stalled(StreamprocError):
    """A worker has something to do and does not get on with it. A fresh start from what was kept may."""


class BrokerError(StreamprocError):
    """Something about the broker."""


class BrokerUnavailable(BrokerError):
    """Nobody answers at the broker's address."""

    exit_code = 3


class ProducerFenced(BrokerError):
    """Another producer has the same transactional id, and began later: this one cannot write any more."""


class BrokerStartError(BrokerError):
    """The embedded broker did not come up."""

    exit_code = 3


class TopicError(BrokerError):
    """A topic cannot be made, changed or found as asked."""
