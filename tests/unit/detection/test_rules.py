"""The alert rules: accepted by promtool, each with a severity, words and a runbook that is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy" / "prometheus"

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool isn't installed")


def rules() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "rules").glob("*.yml"))
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_fire_on_what_they_are_for_and_on_nothing_else() -> None:
    run("promtool", "test", "rules", "tests/rempart_test.yml")


def test_every_rule_is_tested() -> None:
    tested = (DEPLOY / "tests" / "rempart_test.yml").read_text()
    assert [rule["alert"] for rule in rules() if f"name: {rule['alert']} fires" not in tested] == []


def test_every_rule_has_severity_words_and_a_runbook_that_is_there() -> None:
    anchors = {
        heading.lower() for heading in re.findall(r"^### (\w+)$", (ROOT / "docs" / "watch.md").read_text(), re.M)
    }
    for rule in rules():
        assert rule["labels"]["severity"] in {"low", "medium", "high", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (page, anchor in anchors) == ("docs/watch.md", True), rule["alert"]


def test_every_metric_of_the_rules_is_documented() -> None:
    documented = (ROOT / "docs" / "watch.md").read_text()
    used = {name for rule in rules() for name in re.findall(r"\brempart_\w+", rule["expr"])}
    assert sorted(name for name in used if f"`{name}`" not in documented) == []


@pytest.mark.skipif(not shutil.which("amtool"), reason="amtool isn't installed")
def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", "alertmanager.yml")


@needs_promtool
def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "prometheus")
    for name in ("audit.token", "ca.pem"):
        (tmp_path / "prometheus" / name).write_text("x")
    run("promtool", "check", "config", str(tmp_path / "prometheus" / "prometheus.yml"))
