"""`rempart attack`: what it lists, and what it says where it can't attack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rempart.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["attack", *arguments])
    return int(ended.value.code or 0)


def test_the_list_has_every_attack_and_tries_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--list", "--json", "--state", str(tmp_path)) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) > 200
    assert set(listed[0]) == {"id", "stride", "actor", "title", "tried", "expected", "alert"}


def test_without_a_running_system_the_exit_code_is_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--state", str(tmp_path)) == 3
    assert "rempart up" in capsys.readouterr().err


def test_an_unknown_id_is_bad_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--only", "Q-1", "--state", str(tmp_path)) == 2
    assert "unknown_attack" in capsys.readouterr().err
