"""TLS for the gateway's port: certificates from files, and anew when the files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from streamproc.errors import SettingsError

logger = logging.getLogger("streamproc.edge")
_Seen = tuple[tuple[int, int], ...]


class Certificates:
    """A server's certificate and key, in PEM. TLS 1.2 or later.

    Args:
        certificate: the chain, the server's own certificate first.
        key: its private key, without a passphrase.
        client_ca: whose certificates clients must show; None asks for none. Read once: a new one needs a new start.

    Raises:
        SettingsError: a file is missing or no PEM, or certificate and key do not go together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate, self._key = certificate, key
        for path in filter(None, (certificate, key, client_ca)):
            _readable(path)
        self._seen: _Seen = ()
        self._seen = self._look()
        self.context = self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        if client_ca is not None:
            try:
                self.context.load_verify_locations(client_ca)
            except ssl.SSLError as error:
                raise SettingsError(f"TLS: {client_ca}: expected certificates in PEM: {error.reason}") from None
            self.context.verify_mode = ssl.CERT_REQUIRED

    def refresh(self) -> bool:
        """Looks whether the files have changed; whether handshakes from now on get another certificate. What cannot be
        used is logged, once, and the one before stays.
        """
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            for path in (self._certificate, self._key):
                _readable(path)
            # Tried elsewhere first: a context that takes only half of a pair is of no use any more.
            self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
            self._load(self.context)
        except SettingsError as error:
            logger.error("%s; the certificate from before stays in use", error)
            return False
        logger.info("TLS: new certificate from %s", self._certificate)
        return True

    def _look(self) -> _Seen:
        """What tells a file from the one before. A file that is not there at the moment is about to be replaced."""
        try:
            return tuple((s.st_mtime_ns, s.st_ino) for s in (self._certificate.stat(), self._key.stat()))
        except OSError:
            return self._seen

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_cert_chain(self._certificate, self._key, password=lambda: "")  # never asks the terminal
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise SettingsError(
                f"TLS: {self._certificate} and {self._key}: expected a certificate chain and its private key, "
                f"in PEM and without a passphrase: {reason}"
            ) from None
        return context


def _readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"TLS: {path}: {error.strerror}") from None
