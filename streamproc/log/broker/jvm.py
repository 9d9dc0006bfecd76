"""Java's command line for Kafka: bounded memory and a fast start.

Measured on two cores (docs/decisions/embedded-broker.md): with the simple compiler and collector it starts in two
thirds of the time and uses no more of the processor at 300 thousand records/s; an archive of classes leaves about 1 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamproc.log.broker.java import Java

KAFKA = "kafka.Kafka"
STORAGE = "kafka.tools.StorageTool"


def command(
    java: Java,
    jars: Sequence[Path],
    main: str,
    *args: str,
    heap_mb: int = 256,
    tmp: Path | None = None,
    archive: Path | None = None,
    record: Path | None = None,
) -> list[str]:
    """The words that start ``main`` of Kafka's jars.

    Args:
        tmp: where Kafka's compression libraries unpack themselves; must be removed by whoever made it.
        archive: classes recorded earlier; Java goes without it when it does not fit.
        record: where to write such an archive, when the process ends.
    """
    flags = [
        f"-Xmx{heap_mb}m",
        "-Xms64m",
        "-Xss512k",
        "-XX:MaxMetaspaceSize=128m",
        "-XX:MaxDirectMemorySize=64m",
        "-XX:ReservedCodeCacheSize=64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",  # it would leave files in /tmp
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Djdk.nio.maxCachedBufferSize=262144",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    if tmp:
        flags.append(f"-Djava.io.tmpdir={tmp}")
    if java.major >= 24:  # zstd-jni and lz4-java use what these versions warn of
        flags += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    if archive:
        flags += [f"-XX:AOTCache={archive}", "-Xlog:aot*=off"]
    if record:
        flags += [f"-XX:AOTCacheOutput={record}", "-Xlog:aot*=off"]
    return [str(java.path), *flags, "-cp", ":".join(map(str, jars)), main, *args]
