"""An admin client of librdkafka whose failures are this platform's errors, in words that say what to do."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, TimeoutError
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamproc.errors import BrokerError, BrokerUnavailable, SettingsError, TopicError
from streamproc.settings import KafkaSettings

Result = TypeVar("Result")

#: No use trying again.
_REFUSED = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
_AWAY = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


class Caller:
    """Blocking; for one thread at a time.

    Args:
        timeout: seconds that a call may take, including the wait for a broker that is about to come back.
    """

    def __init__(self, settings: KafkaSettings, timeout: float) -> None:
        self.settings = settings
        self.timeout = timeout
        self._heard: deque[KafkaError] = deque(maxlen=16)
        conf = settings.librdkafka() | {"log_level": 0, "error_cb": self._heard.append}
        conf["socket.connection.setup.timeout.ms"] = max(1000, int(timeout * 1000))
        try:
            self.client = AdminClient(conf)
        except KafkaException as error:
            raise SettingsError(f"librdkafka refuses these settings: {error.args[0].str()}") from error

    def metadata(self) -> Any:
        """The cluster's metadata.

        Raises:
            BrokerUnavailable: nobody answers in time, or at once when credentials or certificates are refused.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return self.client.list_topics(timeout=min(max(deadline - time.monotonic(), 0.1), 0.5))
            except KafkaException as error:
                self.client.poll(0)  # hands over what the threads of librdkafka have to say
                refused = any(map(_refusal, self._heard))
                if refused or time.monotonic() >= deadline:
                    raise self._unavailable(error.args[0]) from error

    def results(self, futures: Mapping[Any, Future[Result]]) -> dict[Any, Result | KafkaError]:
        """What became of each: its result, or the error that Kafka gave for it alone.

        Raises:
            BrokerUnavailable: the cluster did not answer.
        """
        return {key: self._result(future) for key, future in futures.items()}

    def _result(self, future: Future[Result]) -> Result | KafkaError:
        try:
            return future.result(self.timeout + 5)
        except TimeoutError:
            raise self._unavailable(KafkaError(KafkaError._TIMED_OUT)) from None
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() in _AWAY:
                raise self._unavailable(reason) from error
            return reason

    def _unavailable(self, error: KafkaError) -> BrokerUnavailable:
        self.client.poll(0)
        where = self.settings.bootstrap
        refusals = [plain(heard) for heard in self._heard if _refusal(heard)]
        if refusals:
            return BrokerUnavailable(f"the broker at {where} and these settings do not go together: {refusals[-1]}")
        reasons = [plain(heard) for heard in self._heard if heard.code() != KafkaError._ALL_BROKERS_DOWN]
        reason = (reasons or [plain(error)])[-1]
        return BrokerUnavailable(
            f"no broker answers at {where} within {self.timeout:g} s ({reason}): start one with "
            "`streamproc broker`, or give another address"
        )


def _refusal(error: KafkaError) -> bool:
    """Credentials or certificates do not fit. TLS 1.3's late alerts come as failed reads, told by their text."""
    return error.code() in _REFUSED or "SSL routines" in error.str()


def plain(error: KafkaError) -> str:
    """An error's text without librdkafka's name for the connection and its state."""
    text = re.sub(r"^(?:\w+://)?\S+?(?:/\w+)?: (?=\S)", "", error.str())
    return re.sub(r" \(after \d+ms in state \w+.*$", "", text).strip()


def topic_errors(results: Mapping[str, Any], doing: str) -> None:
    """Raises TopicError for the topics of ``results`` that failed, each with its reason."""
    failed = {name: result for name, result in results.items() if isinstance(result, KafkaError)}
    if failed:
        told = "; ".join(f"{name!r}: {result.str()}" for name, result in sorted(failed.items()))
        raise TopicError(f"{doing} failed for {told}")


def checked(results: Mapping[Any, Any]) -> Iterable[Any]:
    """The results, when none of them is an error."""
    for result in results.values():
        if isinstance(result, KafkaError):
            raise BrokerError(f"Kafka refused it: {result.str()}")
        yield result
