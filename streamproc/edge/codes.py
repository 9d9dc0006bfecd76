"""Everything that can be wrong on a connection: error codes and close codes, one table each.

Error codes 100 to 112 and the ranges of close codes are Centrifugo's, so that its clients understand them; from 200 on
they are ours.
Close codes 3000 to 3499 ask the client to reconnect, 3500 to 3999 tell it not to. Codes below 3000 are RFC 6455's.
Source: Centrifugo's documentation, "Client protocol codes".
"""

from __future__ import annotations

from typing import NamedTuple


class ErrorCode(NamedTuple):
    """What an error frame says. ``temporary``: the same request may succeed later, in ``retry_after`` seconds."""

    code: int
    name: str
    text: str
    temporary: bool = False
    retry_after: float | None = None


class CloseCode(NamedTuple):
    """Why a connection was closed. ``reconnect``: whether to come back, in ``retry_after`` seconds."""

    code: int
    name: str
    text: str
    reconnect: bool
    retry_after: float | None = None


INTERNAL = ErrorCode(100, "internal", "internal error", temporary=True, retry_after=1.0)
UNAUTHORIZED = ErrorCode(101, "unauthorized", "unauthorized")
UNKNOWN_CHANNEL = ErrorCode(102, "unknown_channel", "unknown topic or channel")
PERMISSION_DENIED = ErrorCode(103, "permission_denied", "permission denied")
METHOD_NOT_FOUND = ErrorCode(104, "method_not_found", "unknown op")
ALREADY_SUBSCRIBED = ErrorCode(105, "already_subscribed", "already subscribed")
LIMIT_EXCEEDED = ErrorCode(106, "limit_exceeded", "limit exceeded")
BAD_REQUEST = ErrorCode(107, "bad_request", "bad request")
NOT_AVAILABLE = ErrorCode(108, "not_available", "not available")
TOKEN_EXPIRED = ErrorCode(109, "token_expired", "token expired")
EXPIRED = ErrorCode(110, "expired", "expired")
TOO_MANY_REQUESTS = ErrorCode(111, "too_many_requests", "too many requests", temporary=True, retry_after=1.0)
UNRECOVERABLE_POSITION = ErrorCode(112, "unrecoverable_position", "unrecoverable position")
LOG_UNAVAILABLE = ErrorCode(200, "log_unavailable", "Kafka does not answer", temporary=True, retry_after=1.0)
LOG_REFUSED = ErrorCode(201, "log_refused", "Kafka refused the record")
DRAINING = ErrorCode(202, "draining", "the gateway is shutting down: reconnect", temporary=True, retry_after=0.5)

ERRORS: dict[int, ErrorCode] = {
    error.code: error
    for error in (
        INTERNAL,
        UNAUTHORIZED,
        UNKNOWN_CHANNEL,
        PERMISSION_DENIED,
        METHOD_NOT_FOUND,
        ALREADY_SUBSCRIBED,
        LIMIT_EXCEEDED,
        BAD_REQUEST,
        NOT_AVAILABLE,
        TOKEN_EXPIRED,
        EXPIRED,
        TOO_MANY_REQUESTS,
        UNRECOVERABLE_POSITION,
        LOG_UNAVAILABLE,
        LOG_REFUSED,
        DRAINING,
    )
}

TOO_BIG = CloseCode(1009, "too_big", "a frame is over the limit", reconnect=False)
SHUTDOWN = CloseCode(3001, "shutdown", "shutdown", reconnect=True, retry_after=0.5)
SLOW = CloseCode(3008, "slow", "too far behind in reading", reconnect=True, retry_after=1.0)
NO_PONG = CloseCode(3012, "no_pong", "silent for too long", reconnect=True)
SERVER_ERROR = CloseCode(3004, "server_error", "internal server error", reconnect=True, retry_after=1.0)
BAD_PROTOCOL = CloseCode(3501, "bad_protocol", "not this protocol", reconnect=False)

CLOSES: dict[int, CloseCode] = {
    close.code: close for close in (TOO_BIG, SHUTDOWN, SERVER_ERROR, SLOW, NO_PONG, BAD_PROTOCOL)
}
