"""TLS: what is served, what is refused, and certificates that change under way."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from websockets.asyncio.client import connect

from streamproc.client import Client, Disconnected
from streamproc.edge.limits import Limits
from streamproc.edge.tls import Certificates
from streamproc.errors import SettingsError
from tests.edge.kit import until, world


class Files(NamedTuple):
    """An authority, and where its newest certificate lies."""

    authority: trustme.CA
    certificate: Path
    key: Path
    client_ca: Path

    def issue(self, name: str = "localhost") -> None:
        """Replaces certificate and key, each at once, as tools that renew them do."""
        made = self.authority.issue_cert(name)
        for path, blobs in ((self.key, [made.private_key_pem]), (self.certificate, made.cert_chain_pems)):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(b"".join(blob.bytes() for blob in blobs))
            os.replace(fresh, path)

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = trustme.CA()
    found = Files(authority, tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(found.client_ca)
    found.issue()
    return found


async def test_a_client_talks_over_tls_and_one_that_does_not_trust_it_does_not(files: Files) -> None:
    async with world(certificates=Certificates(files.certificate, files.key)) as there:
        assert there.gateway.url.startswith("wss://")
        url = f"wss://localhost:{there.gateway.port}"
        async with Client(url, ssl=files.trusting()) as client:
            assert (await client.publish("t-notes", "1", {"text": "x"})).offset == 0
        with pytest.raises(Disconnected, match="certificate verify failed"):
            async with Client(url):
                pass
        with pytest.raises(Disconnected):
            async with Client(f"ws://localhost:{there.gateway.port}"):
                pass


async def test_nothing_older_than_tls_1_2(files: Files) -> None:
    assert Certificates(files.certificate, files.key).context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_clients_must_show_a_certificate_where_they_are_asked_for_one(files: Files) -> None:
    async with world(certificates=Certificates(files.certificate, files.key, files.client_ca)) as there:
        url = f"wss://localhost:{there.gateway.port}"
        with pytest.raises(Disconnected):
            async with Client(url, ssl=files.trusting()):
                pass
        stranger = files.trusting()
        trustme.CA().issue_cert("me").configure_cert(stranger)
        with pytest.raises(Disconnected):
            async with Client(url, ssl=stranger):
                pass
        known = files.trusting()
        files.authority.issue_cert("me").configure_cert(known)
        async with Client(url, ssl=known) as client:
            assert (await client.publish("t-notes", "1", {"text": "x"})).offset == 0


async def shown(port: int, trust: ssl.SSLContext) -> bytes:
    """The certificate that a new handshake gets."""
    async with connect(f"wss://localhost:{port}", ssl=trust) as socket:
        found: bytes = socket.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return found


async def test_a_new_certificate_is_taken_while_connections_go_on(files: Files) -> None:
    limits = Limits(ping=0.05)
    async with world(certificates=Certificates(files.certificate, files.key), limits=limits) as there:
        trust, port = files.trusting(), there.gateway.port
        before = await shown(port, trust)
        async with Client(f"wss://localhost:{port}", ssl=trust) as client:
            files.issue()
            async with asyncio.timeout(20):
                while await shown(port, trust) == before:  # noqa: ASYNC110  the gateway looks now and then
                    await asyncio.sleep(0.02)
            assert (await client.publish("t-notes", "1", {"text": "x"})).offset == 0


def test_what_cannot_be_used_leaves_the_one_before(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    certificates = Certificates(files.certificate, files.key)
    assert not certificates.refresh()
    files.certificate.write_text("nonsense")
    assert not certificates.refresh()
    assert not certificates.refresh()
    assert len(caplog.records) == 1
    assert "stays in use" in caplog.text
    files.key.unlink()
    assert not certificates.refresh()
    files.issue()
    assert certificates.refresh()


@pytest.mark.parametrize("broken", ["missing", "nonsense", "other key", "encrypted"])
def test_files_that_are_wrong_are_named(files: Files, broken: str) -> None:
    if broken == "missing":
        files.key.unlink()
    elif broken == "nonsense":
        files.certificate.write_text("nonsense")
    elif broken == "other key":
        certificate = files.certificate.read_bytes()
        files.issue()
        files.certificate.write_bytes(certificate)
    else:
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        files.key.write_bytes(key.private_bytes(pem, form, locked))
    with pytest.raises(SettingsError, match=r"TLS: .*pem"):
        Certificates(files.certificate, files.key)


def test_an_authority_that_is_none_is_named(files: Files) -> None:
    files.client_ca.write_text("nonsense")
    with pytest.raises(SettingsError, match=r"ca\.pem: expected certificates in PEM"):
        Certificates(files.certificate, files.key, files.client_ca)


async def test_who_never_ends_its_handshake_is_let_go(files: Files) -> None:
    limits = Limits(open_timeout=0.2)
    async with world(certificates=Certificates(files.certificate, files.key), limits=limits) as there:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.gateway.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        await until(lambda: there.gateway.metrics.connections == 0)
