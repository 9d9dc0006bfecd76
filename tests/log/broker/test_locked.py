from streamproc.log.broker.locked import FILE, Lock


def test_the_lock_is_whole():
    lock = Lock.read()
    assert lock.kafka.startswith("4.")
    assert f"org.apache.kafka:kafka_2.13:{lock.kafka}" in [jar.coordinate for jar in lock.jars]
    assert len({jar.filename for jar in lock.jars}) == len(lock.jars)
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in lock.jars)
    assert "http" not in FILE.read_text()


def test_written_as_read(tmp_path):
    Lock.read().write(tmp_path / "lock.toml")
    assert (tmp_path / "lock.toml").read_text() == FILE.read_text()


def test_the_digest_follows_the_jars():
    lock = Lock.read()
    assert Lock(lock.kafka, lock.jars[1:]).digest != lock.digest
