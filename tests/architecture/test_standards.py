"""What the page on standards names as proof is there."""

from __future__ import annotations

import re
from pathlib import Path

from rempart.attack.catalog import catalog

ROOT = Path(__file__).parents[2]


def test_each_point_of_rfc_9700_names_tests_and_attacks_that_exist() -> None:
    table = (ROOT / "docs" / "standards.md").read_text().partition("## RFC 9700, point by point")[2]
    rows = [line.rpartition(" | ")[2] for line in table.splitlines() if line.startswith("| ")]
    named = set(re.findall(r"`([^`]+)`", " ".join(rows)))
    tests = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tests |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    known = tests | {attack.id for attack in catalog()}
    assert len(named) > 40
    assert sorted(named - known) == []
