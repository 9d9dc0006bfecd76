"""Is a broker there, and may topics be created? One Metadata request over a plain socket: silent while nobody answers.

The answer lists the brokers that are registered and not fenced: with one of them in it, topics can be created.
Protocol: https://kafka.apache.org/protocol (Metadata, version 4).
"""

from __future__ import annotations

import socket
import struct

METADATA, VERSION = 3, 4
_BODY = struct.pack(">hhih", METADATA, VERSION, 1, -1) + struct.pack(">i?", 0, False)  # no client id; no topics
_LARGEST = 1 << 20


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """True when a broker at ``host:port`` says that the cluster has one in service. ``timeout`` in seconds."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(struct.pack(">i", len(_BODY)) + _BODY)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            if not 12 <= size <= _LARGEST:
                return False
            _, _, brokers = struct.unpack_from(">iii", _exactly(connection, size))  # correlation, throttle, brokers
            return bool(brokers > 0)
    except (OSError, EOFError):
        return False


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
