"""People of a realm that a real Keycloak exported (recorded: `tests/keycloak_realm.py` makes it again)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.test_people import cli
from tests.keycloak_realm import RECORDED, brought
from tests.people_process import PeopleProcess
from tests.support import short_directory


@pytest.fixture
def people() -> Iterator[PeopleProcess]:
    with short_directory("rp") as directory:
        process = PeopleProcess(directory)
        process.start()
        try:
            yield process
        finally:
            process.stop()
            process.close()


@pytest.mark.parametrize("export", ["realm.json", "files"])
def test_who_had_a_password_in_keycloak_signs_in_with_it(people: PeopleProcess, export: str) -> None:
    brought(people, RECORDED / export, json.loads((RECORDED / "secrets.json").read_text()))


def test_a_directory_with_several_realms_is_not_guessed_at(people: PeopleProcess, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}-realm.json").write_text('{"realm": "x", "users": []}')
    code, _, message = cli(people, "user", "import", str(tmp_path), "--keycloak")
    assert code == 2
    assert "2 realms are there" in message
