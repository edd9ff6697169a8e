"""The attacks with the log's own key are found by the real monitor, and get through where nobody remembers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rempart.attack import split
from rempart.attack.model import Attack
from rempart.attack.scene import Means
from rempart.cli.attack import _operate

ATTACKS = list(split.attacks())


def scene(means: Means) -> Any:
    return SimpleNamespace(means=means)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_a_monitor_finds_it(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(scene(Means(operator=partial(_operate, tmp_path))))
    assert outcome.blocked is True, outcome


def test_who_remembers_nothing_is_deceived(tmp_path: Path) -> None:
    def forgetful(command: Sequence[str], stdin: str) -> Any:
        Path(command[command.index("--memory") + 1]).unlink(missing_ok=True)
        return _operate(tmp_path, command, stdin)

    assert ATTACKS[0].run(scene(Means(operator=forgetful))).blocked is False


def test_without_means_none_is_tried() -> None:
    assert ATTACKS[0].run(scene(Means())).blocked is None
