"""A registry in one JSON file, made to lie in a checkout: the embedded default, which needs no server."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamproc.avro.compat import Compatibility
from streamproc.avro.ledger import Ledger
from streamproc.avro.ports import Registered, Schema
from streamproc.errors import SchemaError, SchemaNotFound

#: What tells one state of a file from another: inode, size in bytes, time of change in nanoseconds.
_Stamp = tuple[int, int, int]


class FileRegistry:
    """Schemas and subjects in the file at ``path``, sorted so that a change of it is a small diff.

    Several processes of one machine may use it at once: additions are made under a lock (``<path>.lock``, flock) and
    replace the file atomically; what others added is seen at the next call. The file and its folder are made when the
    first schema is registered. A schema that is there already needs no right to write.

    Raises:
        SchemaError: (from any method) the file is corrupt, and is then left as it is; or it cannot be read or written.
    """

    def __init__(self, path: str | Path, *, compatibility: Compatibility = "BACKWARD") -> None:
        self.path = Path(os.path.realpath(path))
        self.compatibility = compatibility
        self._state: tuple[_Stamp | None, Ledger] = (None, Ledger())

    def register(self, subject: str, schema: Schema) -> int:
        known = self._read().known(subject, schema) if subject else None
        if known is not None:
            return known
        with self._locked():
            ledger = self._read().copy()  # so that nobody sees what is not in the file yet
            schema_id = ledger.register(subject, schema, self.compatibility)
            self._write(ledger)
            return schema_id

    def by_id(self, schema_id: int) -> Schema:
        schema = self._state[1].by_id(schema_id)  # an id never changes, so the file need not be looked at
        if schema is None:
            schema = self._read().by_id(schema_id)
        if schema is None:
            raise SchemaNotFound(f"no schema with the id {schema_id} in {self.path}")
        return schema

    def latest(self, subject: str) -> Registered:
        return self._read().latest(subject, str(self.path))

    def subjects(self) -> list[str]:
        return self._read().subjects()

    def check(self, subject: str, schema: Schema) -> list[str]:
        return self._read().check(subject, schema, self.compatibility)

    def close(self) -> None:
        """There is nothing to close: files are open for the length of a call."""

    def _read(self) -> Ledger:
        """The file's content, from memory while the file is the same."""
        try:
            with open(self.path, "rb") as file:
                stamp = _stamp(file.fileno())
                known, ledger = self._state
                if stamp != known:
                    ledger = self._parsed(file.read())
                    self._state = (stamp, ledger)
                return ledger
        except FileNotFoundError:
            return Ledger()
        except OSError as error:
            raise SchemaError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _parsed(self, text: bytes) -> Ledger:
        try:
            return Ledger.from_json(json.loads(text, object_pairs_hook=_object))
        except (ValueError, SchemaError) as error:
            why = f"{error} (it has conflict marks of a merge)" if b"<<<<<<<" in text else str(error)
            left = "it is left as it is; restore it from version control"
            raise SchemaError(f"{self.path}: not a schema registry: {why}: {left}") from None

    def _write(self, ledger: Ledger) -> None:
        """Replaces the file in one step; readers see the old one or the new one."""
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}.new")
        try:
            with open(new, "w", encoding="utf-8") as file:
                json.dump(ledger.to_json(), file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
                if self.path.exists():
                    os.fchmod(file.fileno(), self.path.stat().st_mode)
                stamp = _stamp(file.fileno())
            os.replace(new, self.path)
            self._state = (stamp, ledger)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise SchemaError(f"{self.path}: cannot be written: {error.strerror}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes (and threads) from changing the file."""
        try:
            # Replacing needs no right to the file itself, so look: who made it read-only wants it to stay as it is.
            if self.path.exists() and not (self.path.stat().st_mode & 0o222 and os.access(self.path, os.W_OK)):
                what = "make it writable, or register where it is kept"
                raise SchemaError(f"{self.path}: is read-only, so no schema can be added: {what}")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(f"{self.path}.lock", "w")  # noqa: SIM115 closed below
        except OSError as error:
            raise SchemaError(f"{self.path}: cannot be written: {error.strerror}") from None
        with lock:  # closing lets go of the lock
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def __repr__(self) -> str:
        return f"FileRegistry({self.path})"


def _stamp(file: int) -> _Stamp:
    found = os.fstat(file)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. One key twice is what a merge of two additions can leave; the last one must not silently win."""
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return out
