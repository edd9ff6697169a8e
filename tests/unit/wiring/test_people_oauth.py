"""`[people] client_registration` and `[tokens] signing_algorithm` of rempart.toml."""

from __future__ import annotations

from typing import Any

import pytest

from rempart.wiring.check import Problems, Reader
from rempart.wiring.people_oauth import read_registration, read_signing


def read(reading: Any, **table: Any) -> tuple[str, list[str]]:
    problems = Problems({})
    reader = Reader(table, ("people",), problems)
    value = reading(reader)
    reader.no_more()
    return value, [f"{problem.reason} {problem.remedy}" for problem in problems.found]


def test_nobody_registers_themselves_by_default_and_access_tokens_are_es256() -> None:
    assert read(read_registration) == ("off", [])
    assert read(read_signing) == ("ES256", [])


@pytest.mark.parametrize("registration", ["off", "invited"])
def test_registration_is_off_or_by_invitation(registration: str) -> None:
    assert read(read_registration, client_registration=registration) == (registration, [])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_an_algorithm_is_chosen(algorithm: str) -> None:
    assert read(read_signing, signing_algorithm=algorithm) == (algorithm, [])


@pytest.mark.parametrize(
    ("reading", "key", "value"),
    [
        (read_registration, "client_registration", "open"),
        (read_registration, "client_registration", True),
        (read_signing, "signing_algorithm", "HS256"),
        (read_signing, "signing_algorithm", "none"),
    ],
)
def test_anything_else_is_refused(reading: Any, key: str, value: object) -> None:
    assert len(read(reading, **{key: value})[1]) == 1
