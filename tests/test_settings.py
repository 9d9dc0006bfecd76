import ssl

import pytest

from streamproc.errors import SettingsError
from streamproc.settings import KafkaSettings

SASL = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "ada",
    "sasl_password": "secret",
}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bootstrap": "localhost"}, "bootstrap: 'localhost' is not host:port"),
        ({"bootstrap": "a:1,b:99999"}, "bootstrap: 'b:99999' is not host:port"),
        ({"bootstrap": ":1"}, "bootstrap: ':1' is not host:port"),
        ({"security_protocol": "TLS"}, "security_protocol: expected one of PLAINTEXT, SSL, .*; got 'TLS'"),
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism: expected one of PLAIN, .*; got None"),
        (SASL | {"sasl_username": None}, "SASL_PLAINTEXT needs sasl_username and sasl_password"),
        ({"sasl_username": "ada"}, "sasl_.* settings are given, but security_protocol is PLAINTEXT"),
        ({"security_protocol": "SSL", "ssl_key": "/k"}, "ssl_cert and ssl_key go together"),
        ({"ssl_ca": "/ca"}, "ssl_.* settings are given, but security_protocol is PLAINTEXT"),
        ({"security_protocol": "SSL", "ssl_ca": "/no/such/ca"}, "ssl_ca: no file at /no/such/ca"),
    ],
)
def test_what_does_not_go_together(given, told):
    with pytest.raises(SettingsError, match=told):
        KafkaSettings(**given)


def test_options_win_over_the_environment():
    environ = {"STREAMPROC_BOOTSTRAP": "a:1", "STREAMPROC_SSL_CHECK_HOSTNAME": "no", "OTHER": "x"}
    assert KafkaSettings.load(environ) == KafkaSettings("a:1", ssl_check_hostname=False)
    assert KafkaSettings.load(environ, bootstrap="b:2", ssl_ca=None).bootstrap == "b:2"
    assert KafkaSettings.load({}) == KafkaSettings()


def test_a_boolean_is_true_or_false():
    with pytest.raises(SettingsError, match="ssl_check_hostname: expected true or false; got 'maybe'"):
        KafkaSettings.load({"STREAMPROC_SSL_CHECK_HOSTNAME": "maybe"})


def test_a_child_process_gets_the_same_settings():
    settings = KafkaSettings("a:1,b:2", **SASL)
    assert KafkaSettings.load(settings.environ()) == settings


def test_for_librdkafka_and_aiokafka():
    settings = KafkaSettings("a:1, b:2", **SASL)
    assert settings.librdkafka() == {
        "bootstrap.servers": "a:1, b:2",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "ada",
        "sasl.password": "secret",
    }
    assert settings.aiokafka() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "ada",
        "sasl_plain_password": "secret",
    }


@pytest.mark.parametrize("check", [True, False])
def test_tls_checks_the_name_unless_told_not_to(check):
    settings = KafkaSettings(security_protocol="SSL", ssl_check_hostname=check)
    assert settings.librdkafka()["ssl.endpoint.identification.algorithm"] == ("https" if check else "none")
    assert settings.ssl_context().check_hostname == check
    assert settings.ssl_context().verify_mode == ssl.CERT_REQUIRED
    assert settings.aiokafka()["ssl_context"].check_hostname == check


def test_the_password_is_not_shown():
    text = repr(KafkaSettings(**SASL))
    assert "secret" not in text
    assert "ada" in text
