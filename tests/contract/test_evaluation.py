"""How good the models are on generated traffic is what docs/models.md says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is installed by `make setup-test`")
PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
_RANGE = r"\**(?:\d\.\d+)\** \((\d\.\d+)–(\d\.\d+)\)"
_SLACK = 0.1  # another processor adds numbers in another order


def told() -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Worst and best of precision and of recall by (subject, who)."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    subject = ""
    for line in PAGE.partition("## How good they are")[2].splitlines():
        row = re.match(rf"\| (\w*) ?\| ([^|]+?)(?:: [^|]*)? \| {_RANGE} \| {_RANGE} \|", line)
        if row is not None:
            subject = row[1] or subject
            found[subject, row[2]] = [(float(row[3]), float(row[4])), (float(row[5]), float(row[6]))]
    return found


def test_the_figures_of_the_page_are_those_of_the_command() -> None:
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", "models", "evaluate", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: Any = json.loads(done.stdout, parse_constant=pytest.fail)
    page = told()
    assert len(page) == 9
    for one in document["evaluations"]:
        assert {score["name"] for score in one["scores"]} == {who for subject, who in page if subject == one["subject"]}
        for score in one["scores"]:
            for said, (worst, best) in zip(("precision", "recall"), page[one["subject"], score["name"]], strict=True):
                assert worst - _SLACK <= score[said] <= best + _SLACK, (one["subject"], score, said)
