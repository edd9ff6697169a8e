"""Each MUST of the SPIFFE standards on `docs/spiffe.md` names tests and attacks that exist."""

from __future__ import annotations

import re
from pathlib import Path

from rempart.attack.catalog import catalog

ROOT = Path(__file__).parents[2]


def test_each_must_names_tests_and_attacks_that_exist() -> None:
    page = (ROOT / "docs" / "spiffe.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| (endpoint )?\d", line)]
    proofs = [re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]) for row in rows]
    assert len(rows) > 40
    assert [row for row, names in zip(rows, proofs, strict=True) if not names] == []
    known = {attack.id for attack in catalog()}
    for path in (ROOT / "tests").rglob("test_*.py"):
        known |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    assert sorted({name for names in proofs for name in names} - known) == []
