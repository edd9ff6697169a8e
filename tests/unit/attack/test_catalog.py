"""The catalog: complete, unambiguous, and in step with the alert rules and the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rempart.attack.catalog import catalog, select
from rempart.attack.model import Actor, Alert, Stride
from rempart.kernel.errors import BadInput

ROOT = Path(__file__).parents[3]


def test_ids_are_unique_and_begin_with_their_stride_letter() -> None:
    ids = [attack.id for attack in catalog()]
    assert len(ids) == len(set(ids)) > 200
    assert [id for id in ids if not re.fullmatch(r"[STRIDE]-[a-z0-9.-]+", id)] == []


def test_every_kind_of_threat_and_every_actor_is_there() -> None:
    assert {attack.stride for attack in catalog()} == set(Stride)
    assert {attack.actor for attack in catalog()} == set(Actor)


def test_every_attack_says_what_it_tries_and_what_should_happen() -> None:
    assert [attack.id for attack in catalog() if not (attack.title and attack.tried and attack.expected)] == []


def test_every_alert_is_a_rule() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "rempart.yml").read_text()
    assert [alert for alert in Alert if alert and f"alert: {alert}\n" not in rules] == []


def test_the_families_of_the_documentation_are_those_of_the_catalog() -> None:
    page = (ROOT / "docs" / "attack.md").read_text()
    documented = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert [attack.id for attack in catalog() if not any(attack.id.startswith(prefix) for prefix in documented)] == []
    assert [prefix for prefix in documented if not any(attack.id.startswith(prefix) for attack in catalog())] == []


def test_a_selection_is_by_beginning_and_an_unknown_one_is_refused() -> None:
    assert {attack.id for attack in select(["I-tls", "D-rate"])} == {"I-tls-1.0", "I-tls-1.1", "D-rate"}
    assert len(select([])) == len(catalog())
    with pytest.raises(BadInput, match="no attack"):
        select(["S-jwt", "nothing"])
