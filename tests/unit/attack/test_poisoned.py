"""Poison and forged models are found, and say so when the models believe everything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rempart.attack import poisoned
from rempart.attack.model import Attack
from rempart.attack.scene import Means
from rempart.cli.attack_models import models_means

ATTACKS = list(poisoned.attacks())


def scene(means: Means) -> Any:
    return SimpleNamespace(means=means)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_each_is_stopped(attack: Attack, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = attack.run(scene(Means(**models_means())))
    assert outcome.blocked is True, outcome.observed
    assert "ran a program" not in capfd.readouterr().out


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_models_that_learn_and_believe_anything_let_each_through(attack: Attack) -> None:
    means = Means(learn=lambda history, after: [], model=lambda: (b"", lambda content: ""))
    assert attack.run(scene(means)).blocked is False


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_without_means_none_is_tried(attack: Attack) -> None:
    assert attack.run(scene(Means())).blocked is None
