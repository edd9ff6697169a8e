"""A realm made in a Keycloak that runs here, exported by its own tool and imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.keycloak import NoKeycloak, unpacked
from tests.keycloak_realm import REALM, brought, make
from tests.people_process import PeopleProcess
from tests.support import short_directory

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


def test_what_keycloak_exports_is_imported(tmp_path: Path) -> None:
    try:
        with unpacked() as keycloak:
            secrets = make(keycloak)
            keycloak.export(REALM, "--file", str(tmp_path / "realm.json"))
    except NoKeycloak as error:
        pytest.skip(str(error))
    with short_directory("rp") as directory:
        people = PeopleProcess(directory)
        people.start()
        try:
            brought(people, tmp_path / "realm.json", secrets)
        finally:
            people.stop()
            people.close()
