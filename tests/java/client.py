"""Kafka's Java client for tests: produces any bytes with any of its settings, and reads them. No JDK is needed.

It lives in a child process, ``tests.java.child``, and is asked over pipes: a request is a length of four bytes and
so much MessagePack, and so is its answer.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import msgspec

ROOT = Path(__file__).parents[2]


class Row(msgspec.Struct, array_like=True, frozen=True):
    """A record. ``timestamp`` is in milliseconds, None for the time of sending; ``offset`` is -1 in what is sent."""

    key: bytes | None
    value: bytes | None
    timestamp: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    offset: int = -1


class Produce(msgspec.Struct, tag=True):
    """``transaction``: None for none, True to commit it, False to abort it."""

    config: dict[str, str]
    topic: str
    partition: int
    rows: list[Row]
    flush_every: int
    transaction: bool | None


class Read(msgspec.Struct, tag=True):
    config: dict[str, str]
    topic: str
    partition: int
    at_least: int


Asked = Produce | Read


class JavaClient:
    """The Java client, connected to one Kafka. A context manager; one request at a time."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> JavaClient:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.java.child"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        child, self._child = self._child, None
        assert child is not None
        with child:
            assert child.stdin is not None
            child.stdin.close()  # it ends by itself
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()

    def produce(
        self,
        topic: str,
        rows: Sequence[Row],
        *,
        partition: int = 0,
        codec: str = "none",
        batch_size: int = 1 << 20,
        linger_ms: int = 1_000,
        flush_every: int = 0,
        idempotent: bool = True,
        transaction: bool | None = None,
        transactional_id: str | None = None,
        **config: str,
    ) -> None:
        """Sends the rows in their order; returns when Kafka has them.

        Args:
            codec: ``none``, ``gzip``, ``snappy``, ``lz4`` or ``zstd``.
            batch_size: the most bytes of a batch.
            flush_every: a batch ends after so many rows at the latest; 0 where only its bytes and ``linger_ms`` end it.
            transaction: all rows in one, committed (True) or aborted (False).
            config: more of the producer's settings, with ``_`` for ``.``.
        """
        settings = {
            "compression.type": codec,
            "batch.size": str(batch_size),
            "linger.ms": str(linger_ms),
            "enable.idempotence": str(idempotent).lower(),
            "acks": "all",
            "max.request.size": str(64 << 20),
            **{name.replace("_", "."): value for name, value in config.items()},
        }
        if transaction is not None:
            settings["transactional.id"] = transactional_id or f"{topic}-java"
        self._ask(Produce(self._reached(settings), topic, partition, list(rows), flush_every, transaction))

    def read(
        self, topic: str, *, partition: int = 0, committed_only: bool = False, at_least: int = 0, **config: str
    ) -> list[Row]:
        """All records of a partition, with their offsets.

        Args:
            at_least: waits up to ten seconds for so many: a transaction's end comes a little after its commit.
        """
        settings = {
            "isolation.level": "read_committed" if committed_only else "read_uncommitted",
            **{name.replace("_", "."): value for name, value in config.items()},
        }
        answer = self._ask(Read(self._reached(settings), topic, partition, at_least))
        return msgspec.convert(answer, list[Row])

    def _reached(self, settings: dict[str, str]) -> dict[str, str]:
        return {"bootstrap.servers": self._bootstrap, **settings}

    def _ask(self, asked: Asked) -> Any:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        frame(self._child.stdin, msgspec.msgpack.encode(asked))
        data = unframe(self._child.stdout)
        assert data is not None, f"the Java client ended with code {self._child.wait(15)}"
        answer, error = msgspec.msgpack.decode(data)
        if error:
            raise RuntimeError(error)
        return answer


def frame(pipe: IO[bytes], data: bytes) -> None:
    """Writes one message."""
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def unframe(pipe: IO[bytes]) -> bytes | None:
    """Reads one message; None at the end."""
    size = pipe.read(4)
    return pipe.read(int.from_bytes(size, "big")) if len(size) == 4 else None
