"""The examples are applications: of Rempart they import the SDK and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_sdk_is_imported(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module or "")
    assert {name for name in imported if name.split(".")[0] == "rempart"} <= {"rempart.sdk"}
    if file.parent.name != "demo":  # a service that looked at another's code would share its trust
        services = {"wallet", "payment", "users", "deposit_agent"} - {file.parent.name}
        assert not {name.split(".")[0] for name in imported} & services
