"""Where the broker is and how to speak to it: one set of settings for librdkafka and aiokafka alike.

Every field can be given as an environment variable ``STREAMPROC_<FIELD>`` (upper case); the command line's options
win over them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from streamproc.errors import SettingsError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PREFIX = "STREAMPROC_"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """A Kafka cluster's address and credentials.

    Args:
        bootstrap: ``host:port`` of one or more brokers, comma separated.
        security_protocol: how connections are secured.
        sasl_mechanism: required with ``SASL_*``, as are ``sasl_username`` and ``sasl_password``.
        ssl_ca: PEM file with the authorities to trust; the system's by default.
        ssl_cert: PEM file with the client's certificate, for mutual TLS; needs ``ssl_key``.
        ssl_key: PEM file with the client's private key.
        ssl_check_hostname: whether the broker's certificate must name its host.

    Raises:
        SettingsError: the fields do not go together.
    """

    bootstrap: str = "127.0.0.1:9092"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    ssl_check_hostname: bool = True

    def __post_init__(self) -> None:
        _one_of("security_protocol", self.security_protocol, ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"))
        for server in self.bootstrap.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise SettingsError(f"bootstrap: {server.strip()!r} is not host:port")
        if self.sasl:
            _one_of("sasl_mechanism", self.sasl_mechanism, ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))
            if not self.sasl_username or self.sasl_password is None:
                raise SettingsError(f"{self.security_protocol} needs sasl_username and sasl_password")
        elif self.sasl_mechanism or self.sasl_username or self.sasl_password:
            raise SettingsError(f"sasl_* settings are given, but security_protocol is {self.security_protocol}")
        if bool(self.ssl_cert) != bool(self.ssl_key):
            raise SettingsError("ssl_cert and ssl_key go together: give both or neither")
        if not self.tls and (self.ssl_ca or self.ssl_cert):
            raise SettingsError(f"ssl_* settings are given, but security_protocol is {self.security_protocol}")
        for name in ("ssl_ca", "ssl_cert", "ssl_key"):
            path = getattr(self, name)
            if path and not os.path.isfile(path):
                raise SettingsError(f"{name}: no file at {path}")

    @property
    def sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @property
    def tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> KafkaSettings:
        """The settings of the environment, with those of ``overrides`` that are not None on top."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = environ.get(PREFIX + field.name.upper())
            if text is not None:
                values[field.name] = _boolean(field.name, text) if field.type == "bool" else text
        values.update((k, v) for k, v in overrides.items() if v is not None)
        return cls(**values)

    def librdkafka(self) -> dict[str, Any]:
        """As configuration of confluent-kafka."""
        conf: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.security_protocol}
        if self.sasl:
            conf |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password,
            }
        if self.tls:
            names = {"ssl_ca": "ssl.ca.location", "ssl_cert": "ssl.certificate.location", "ssl_key": "ssl.key.location"}
            conf |= {key: getattr(self, name) for name, key in names.items() if getattr(self, name)}
            conf["ssl.endpoint.identification.algorithm"] = "https" if self.ssl_check_hostname else "none"
        return conf

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for clients that take Python's, or None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ssl_ca)
        context.check_hostname = self.ssl_check_hostname
        if self.ssl_cert:
            context.load_cert_chain(self.ssl_cert, self.ssl_key)
        return context

    def aiokafka(self) -> dict[str, Any]:
        """As keyword arguments of aiokafka's clients."""
        args: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",")],
            "security_protocol": self.security_protocol,
        }
        if self.tls:
            args["ssl_context"] = self.ssl_context()
        if self.sasl:
            args |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return args

    def environ(self) -> dict[str, str]:
        """As environment variables, for a child process."""
        return {
            PREFIX + f.name.upper(): str(getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) is not None
        }

    def __repr__(self) -> str:
        secret = "" if self.sasl_password is None else f" as {self.sasl_username}"
        return f"KafkaSettings({self.bootstrap} {self.security_protocol}{secret})"


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{name}: expected one of {', '.join(allowed)}; got {value!r}")


def _boolean(name: str, text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise SettingsError(f"{name}: expected true or false; got {text!r}")
    return values[text.lower()]
