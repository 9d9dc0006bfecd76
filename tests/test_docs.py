"""Docs that fail the build: the README's code runs; commands, settings and metrics are all in the reference."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry

from streamproc.cli.main import NOUNS
from streamproc.edge.metrics import GatewayMetrics
from streamproc.runtime.metrics import WorkerMetrics
from streamproc.settings import PREFIX, KafkaSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for text in blocks("json"):
        name = re.search(r'"name": "(\w+)"', text)
        assert name
        (schemas / f"{name[1].lower()}.avsc").write_text(text)
    topology, test = blocks("python")
    (tmp_path / "oven.py").write_text(topology)
    module = ModuleType("oven")
    module.__file__ = str(tmp_path / "oven.py")
    monkeypatch.setitem(sys.modules, "oven", module)
    exec(compile(topology, "oven.py", "exec"), module.__dict__)
    exec(compile(test, "test_oven.py", "exec"), module.__dict__)


def test_readme_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("noun", NOUNS)
def test_every_command_is_in_the_reference(noun: str) -> None:
    assert re.search(rf"^\| `{noun}\b", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("field", [field.name for field in fields(KafkaSettings)])
def test_every_setting_is_in_the_reference(field: str) -> None:
    assert f"`{PREFIX}{field.upper()}` | `--{field.replace('_', '-')}`" in REFERENCE


def names(registry: CollectorRegistry) -> set[str]:
    return {metric.name for metric in registry.collect()}


def test_every_metric_is_in_the_reference_and_no_other() -> None:
    have = names(WorkerMetrics(CollectorRegistry()).registry) | names(GatewayMetrics().registry)
    documented = {name.removesuffix("_total") for name in re.findall(r"`(streamproc_\w+)`", REFERENCE)}
    assert documented == have
