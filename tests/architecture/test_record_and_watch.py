"""What the page on record and watch names as proof is there."""

from __future__ import annotations

import re
from pathlib import Path

from rempart.attack.catalog import catalog

ROOT = Path(__file__).parents[2]


def test_each_promise_names_tests_and_attacks_that_exist() -> None:
    page = (ROOT / "docs" / "record-and-watch.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "| held by |" not in line]
    proofs = [re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]) for row in rows]
    known = {attack.id for attack in catalog()}
    for path in (ROOT / "tests").rglob("test_*.py"):
        known |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    assert len(rows) > 30
    assert [row for row, names in zip(rows, proofs, strict=True) if not names] == []
    assert sorted({name for names in proofs for name in names} - known) == []
