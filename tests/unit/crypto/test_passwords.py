"""argon2id: what is stored, what is compared, and which stored hashes are refused."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.crypto.passwords import Argon2id, check_encoded
from rempart.kernel.errors import BadInput

LIGHT = Argon2id(memory=8, passes=1)


def test_the_parameters_are_owasps() -> None:
    encoded = Argon2id().hash("a quiet river of glass 42")
    assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert Argon2id().verify("a quiet river of glass 42", encoded)
    assert not Argon2id().verify("a quiet river of glass 43", encoded)
    assert encoded != Argon2id().hash("a quiet river of glass 42")


def test_the_reference_implementation_made_this_hash() -> None:
    """phc-winner-argon2's test.c, argon2id v=19, m=65536, t=2, p=1."""
    encoded = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    assert LIGHT.verify("password", encoded)
    assert not LIGHT.verify("passwore", encoded)


def test_one_password_however_it_was_typed() -> None:
    """NIST SP 800-63B-4: normalise before hashing."""
    composed = "caf\u00e9 au lait et croissant"
    assert LIGHT.verify(unicodedata.normalize("NFD", composed), LIGHT.hash(composed))


def test_hashes_made_with_less_are_outdated() -> None:
    encoded = LIGHT.hash("x")
    assert not LIGHT.outdated(encoded)
    assert Argon2id(memory=16, passes=1).outdated(encoded)
    assert Argon2id(memory=8, passes=2).outdated(encoded)
    assert LIGHT.outdated("$2b$12$whatever")


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "plain",
        "$argon2d$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=8,t=99,p=1$c29tZXNhbHQ$" + "A" * 43,
        "$argon2id$v=19$m=8,t=1,p=99$c29tZXNhbHQ$" + "A" * 43,
        "$2b$31$" + "A" * 53,
        "$2x$10$" + "A" * 53,
        "$pbkdf2-sha256$i=99999999$c29tZXNhbHQ$" + "A" * 43,
        "$pbkdf2-sha256$i=0$c29tZXNhbHQ$" + "A" * 43,
        "$pbkdf2-sha1$i=1000$c29tZXNhbHQ$" + "A" * 43,
        "$pepper=1$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43,
    ],
)
def test_a_hash_of_another_kind_or_a_costly_one_is_not_taken_in(encoded: str) -> None:
    with pytest.raises(BadInput):
        check_encoded(encoded)


def test_a_hash_from_elsewhere_is_taken_in() -> None:
    assert LIGHT.verify("x", check_encoded(LIGHT.hash("x")))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.text(max_size=120))
def test_whatever_is_given_verifying_answers(password: str, encoded: str) -> None:
    assert LIGHT.verify(password, encoded) is False


def test_a_pepper_is_needed_to_verify_and_its_version_can_change() -> None:
    def pepper(version: int) -> bytes:
        return bytes([version]) * 32

    plain, first, second = (Argon2id(8, 1, pepper=pepper, pepper_version=version) for version in (0, 1, 2))
    encoded = first.hash("a quiet river")
    assert encoded.startswith("$pepper=1$argon2id$")
    assert all(hasher.verify("a quiet river", encoded) for hasher in (plain, first, second))
    assert not first.verify("a quiet rivet", encoded)
    assert [hasher.outdated(encoded) for hasher in (plain, first, second)] == [True, False, True]
    assert first.verify("a quiet river", LIGHT.hash("a quiet river"))
    assert first.outdated(LIGHT.hash("a quiet river"))
    assert not LIGHT.verify("a quiet river", encoded)
    assert not Argon2id(8, 1, pepper=lambda _: bytes(32), pepper_version=1).verify("a quiet river", encoded)
