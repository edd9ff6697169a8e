from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

GRAFANA = Path(__file__).parents[3] / "deploy" / "grafana"


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("dashboards", GRAFANA / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["path", "identities", "decisions", "security"])
def test_the_files_are_what_their_maker_makes(name: str) -> None:
    made = maker().dashboard(name)
    assert json.loads((GRAFANA / f"{name}.json").read_text()) == made
    assert len({panel["title"] for panel in made["panels"]}) == len(made["panels"]) == (16 if name == "security" else 8)
    assert all(panel["description"] for panel in made["panels"])
