"""One set of settings reaches librdkafka and aiokafka alike: over SASL and over TLS, and not with the wrong secrets."""

import asyncio
import datetime
import ipaddress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streamproc.errors import BrokerUnavailable
from streamproc.log.broker import BrokerConfig, EmbeddedBroker, Listener
from streamproc.log.broker.config import HOST, free_port
from streamproc.log.kafka_admin import KafkaAdmin
from streamproc.settings import KafkaSettings

pytestmark = pytest.mark.e2e

JAAS = "org.apache.kafka.common.security.{} required{};"


class Authority:
    """A certificate authority of the tests' own, and what it signs, as PEM."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.certificate = self._sign(self.name, self.key, (x509.BasicConstraints(True, None), True), (usage, True))

    def _sign(self, subject, key, *extensions):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, name):
        """Private key and certificate chain for loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, (names, False))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def authority():
    return Authority("tests")


@pytest.fixture(scope="module")
def secured(authority):
    """A broker that listens in the clear, with SASL, with TLS, and with TLS for known clients only."""
    key, certificate = authority.issue("broker")
    tls = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": key,
        "ssl.keystore.certificate.chain": certificate,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": authority.pem,
    }
    sasl = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "plain.sasl.jaas.config": JAAS.format("plain.PlainLoginModule", ' user_ada="right"'),
        "scram-sha-256.sasl.jaas.config": JAAS.format("scram.ScramLoginModule", ""),
        "scram-sha-512.sasl.jaas.config": JAAS.format("scram.ScramLoginModule", ""),
    }
    listeners = (
        Listener("SASL", free_port(), "SASL_PLAINTEXT", sasl),
        Listener("BOTH", free_port(), "SASL_SSL", sasl | tls),
        Listener("TLS", free_port(), "SSL", tls | {"ssl.client.auth": "none"}),
        Listener("MUTUAL", free_port(), "SSL", tls | {"ssl.client.auth": "required"}),
    )
    with EmbeddedBroker(BrokerConfig(listeners=listeners)) as broker:
        admin = AdminClient(broker.settings.librdkafka())
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            change = UserScramCredentialUpsertion("ada", ScramCredentialInfo(mechanism, 4096), b"right")
            admin.alter_user_scram_credentials([change])["ada"].result(20)
        yield broker


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """Paths of PEM files: the authority, a stranger's authority, a client's certificate and key."""
    folder = tmp_path_factory.mktemp("pem")
    key, certificate = authority.issue("client")
    content = {"ca": authority.pem, "stranger": Authority("stranger").pem, "cert": certificate, "key": key}
    for name, text in content.items():
        (folder / name).write_text(text)
    return {name: str(folder / name) for name in content}


def sasl_user(mechanism, password="right", protocol="SASL_PLAINTEXT"):
    return {
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
        "sasl_username": "ada",
        "sasl_password": password,
    }


WAYS = {
    "plain": ("SASL", lambda files: sasl_user("PLAIN")),
    "scram-256": ("SASL", lambda files: sasl_user("SCRAM-SHA-256")),
    "scram-512": ("SASL", lambda files: sasl_user("SCRAM-SHA-512")),
    "scram over tls": (
        "BOTH",
        lambda files: sasl_user("SCRAM-SHA-512", protocol="SASL_SSL") | {"ssl_ca": files["ca"]},
    ),
    "tls": ("TLS", lambda files: {"security_protocol": "SSL", "ssl_ca": files["ca"]}),
    "tls, name unchecked": (
        "TLS",
        lambda files: {"security_protocol": "SSL", "ssl_ca": files["ca"], "ssl_check_hostname": False},
    ),
    "mutual": (
        "MUTUAL",
        lambda files: {
            "security_protocol": "SSL",
            "ssl_ca": files["ca"],
            "ssl_cert": files["cert"],
            "ssl_key": files["key"],
        },
    ),
}
WRONG = {
    "plain, wrong password": ("SASL", lambda files: sasl_user("PLAIN", "wrong")),
    "scram, wrong password": ("SASL", lambda files: sasl_user("SCRAM-SHA-256", "wrong")),
    "unknown authority": ("TLS", lambda files: {"security_protocol": "SSL", "ssl_ca": files["stranger"]}),
    "no client certificate": ("MUTUAL", lambda files: {"security_protocol": "SSL", "ssl_ca": files["ca"]}),
}


@pytest.fixture
def settings(request, secured, files):
    name, make = request.param
    port = next(listener.port for listener in secured.config.listeners if listener.name == name)
    return KafkaSettings(f"{HOST}:{port}", **make(files))


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS, indirect=True)
async def test_both_clients_produce_and_consume(settings, secured, name):
    admin = AdminClient(secured.settings.librdkafka())
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    await asyncio.to_thread(produce_with_librdkafka, settings, name)
    async with AIOKafkaProducer(**settings.aiokafka()) as producer:
        await producer.send_and_wait(name, b"from aiokafka")
    async with AIOKafkaConsumer(name, **settings.aiokafka(), auto_offset_reset="earliest") as consumer:
        read = [(await asyncio.wait_for(anext(consumer), 20)).value for _ in range(2)]
    assert read == [b"from librdkafka", b"from aiokafka"]
    assert await asyncio.to_thread(consume_with_librdkafka, settings, name) == read


def produce_with_librdkafka(settings, topic):
    producer = Producer(settings.librdkafka())
    producer.produce(topic, b"from librdkafka")
    assert producer.flush(20) == 0


def consume_with_librdkafka(settings, topic):
    consumer = Consumer({**settings.librdkafka(), "group.id": topic})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(2, 20)]
    finally:
        consumer.close()


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG, indirect=True)
async def test_wrong_secrets_fail(settings):
    with pytest.raises(
        BrokerUnavailable, match=r"and these settings do not go together: .*([Aa]uthentication|certificate)"
    ):
        await KafkaAdmin(settings).list()
    producer = AIOKafkaProducer(**settings.aiokafka())
    try:
        with pytest.raises(KafkaError):
            await asyncio.wait_for(producer.start(), 20)
    finally:
        await producer.stop()
