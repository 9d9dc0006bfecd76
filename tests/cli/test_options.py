import pytest
from typer.testing import CliRunner

from streamproc.cli.options import noun, takes_kafka
from streamproc.errors import SettingsError
from streamproc.settings import KafkaSettings


@pytest.fixture
def run():
    """Runs a command that takes an argument of its own and Kafka's options; returns what it was given."""
    app, given = noun(), []

    @app.command()
    @takes_kafka
    def command(word: str, kafka: KafkaSettings, count: int = 1) -> None:
        """Does it."""
        given.append((word, count, kafka))

    def run(*args, **environ):
        result = CliRunner().invoke(app, args, env=environ)
        if result.exception:
            raise result.exception
        return given[-1] if given else result.output

    return run


def test_defaults(run):
    assert run("w") == ("w", 1, KafkaSettings())


def test_options_win_over_the_environment(run):
    environ = {"STREAMPROC_BOOTSTRAP": "a:1", "STREAMPROC_SECURITY_PROTOCOL": "SSL"}
    assert run("w", **environ)[2] == KafkaSettings("a:1", "SSL")
    assert run("w", "--bootstrap", "b:2", "--count", "3", **environ) == ("w", 3, KafkaSettings("b:2", "SSL"))


def test_every_setting_has_its_option(run, tmp_path):
    (tmp_path / "pem").write_text("")
    pem = str(tmp_path / "pem")
    args = ["--security-protocol", "SASL_SSL", "--sasl-mechanism", "PLAIN"]
    args += [
        "--sasl-username",
        "u",
        "--sasl-password",
        "p",
        "--ssl-ca",
        pem,
        "--ssl-cert",
        pem,
        "--ssl-key",
        pem,
        "--no-ssl-check-hostname",
        "--bootstrap",
        "a:1",
    ]
    expected = KafkaSettings("a:1", "SASL_SSL", "PLAIN", "u", "p", pem, pem, pem, False)
    assert run("w", *args)[2] == expected


def test_what_does_not_go_together_is_a_settings_error(run):
    with pytest.raises(SettingsError, match="sasl_"):
        run("w", "--sasl-username", "u")
