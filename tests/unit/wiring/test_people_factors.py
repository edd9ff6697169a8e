"""`[people]` of rempart.toml: passwords and second factors."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.kernel.errors import BadInput
from rempart.wiring.people_factors import FactorSettings
from rempart.wiring.settings import load

APP = '[app]\nname = "bank"\ntrust_domain = "bank.example"\n[people]\n'


def read(tmp_path: Path, people: str) -> FactorSettings:
    (tmp_path / "rempart.toml").write_text(APP + people)
    return load(tmp_path).factors


def test_what_is_not_said_is_nists(tmp_path: Path) -> None:
    assert read(tmp_path, "") == FactorSettings(password_length=15, password_length_with_factor=8, password_pepper=0)


def test_what_is_said_counts(tmp_path: Path) -> None:
    said = (
        "password_length = 20\npassword_length_with_factor = 10\npassword_pepper = 1\n"
        'require_mfa_roles = ["admin", "cfo"]\n[people.roles.cfo]\n'
    )
    assert read(tmp_path, said) == FactorSettings(
        password_length=20,
        password_length_with_factor=10,
        password_pepper=1,
        require_mfa_roles=("admin", "cfo"),
    )


@pytest.mark.parametrize(
    "wrong", ["password_length = 7", "password_pepper = -1", 'require_mfa_roles = ["cfo"]', 'password_length = "15"']
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(tmp_path, wrong)
    assert wrong.split()[0] in str(refused.value)
