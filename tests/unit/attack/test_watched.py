"""The simulated attacks on the watch are found, and say so when the rules are gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rempart.attack import watched
from rempart.attack.model import Attack
from rempart.attack.scene import Means
from rempart.cli.attack import _replay

SIMULATED = [attack for attack in watched.attacks() if not attack.needs]


def scene(means: Means) -> Any:
    return SimpleNamespace(means=means)


@pytest.mark.parametrize("attack", SIMULATED, ids=lambda attack: attack.id)
def test_each_is_found(attack: Attack) -> None:
    assert attack.run(scene(Means(replay=_replay))).blocked is True


@pytest.mark.parametrize("attack", SIMULATED, ids=lambda attack: attack.id)
def test_without_rules_each_gets_through(attack: Attack) -> None:
    assert attack.run(scene(Means(replay=lambda events: []))).blocked is False


@pytest.mark.parametrize("attack", SIMULATED, ids=lambda attack: attack.id)
def test_without_means_none_is_tried(attack: Attack) -> None:
    assert attack.run(scene(Means())).blocked is None
