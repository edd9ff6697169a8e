"""Hashes that other programs made: published vectors, bounds, and nothing but yes or no for whatever is given."""

from __future__ import annotations

import base64
import hashlib

import bcrypt
import pytest
from argon2.low_level import Type, hash_secret
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.crypto.imported_hashes import readable, verify_imported
from rempart.crypto.passwords import Argon2id, check_encoded


def pbkdf2(kind: str, iterations: int, salt: bytes, derived: bytes) -> str:
    salt_text, derived_text = (base64.b64encode(part).decode().rstrip("=") for part in (salt, derived))
    return f"$pbkdf2-{kind}$i={iterations}${salt_text}${derived_text}"


RFC_7914 = bytes.fromhex(  # section 11
    "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
    "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"
)
VECTORS = [
    ("Password", pbkdf2("sha256", 80000, b"NaCl", RFC_7914)),
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),  # Openwall's crypt_blowfish, wrapper.c
    ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
    (  # phc-winner-argon2, test.c: argon2i, v=19, m=65536, t=2, p=1
        "password",
        "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
    ),
]


@pytest.mark.parametrize(("password", "encoded"), VECTORS)
def test_published_vectors_verify_and_are_hashed_again(password: str, encoded: str) -> None:
    hasher = Argon2id(memory=8, passes=1)
    assert hasher.verify(password, check_encoded(encoded))
    assert not hasher.verify(password + "x", encoded)
    assert hasher.outdated(encoded)


def test_keycloaks_hashes_of_64_bytes() -> None:
    derived = hashlib.pbkdf2_hmac("sha512", b"a quiet river", b"sixteen bytes ok", 1000, 64)
    assert verify_imported("a quiet river", check_encoded(pbkdf2("sha512", 1000, b"sixteen bytes ok", derived)))
    keycloak = hash_secret(b"a quiet river", b"sixteen bytes ok", 5, 7168, 1, 32, Type.ID).decode()
    assert verify_imported("a quiet river", check_encoded(keycloak))


def test_bcrypt_reads_72_bytes_and_never_raises() -> None:
    encoded = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert verify_imported("x" * 100, encoded)
    assert not verify_imported("x" * 71, encoded)
    assert not verify_imported("a\0b", encoded)


def test_a_password_that_was_hashed_before_normalisation_still_opens() -> None:
    decomposed = "cafe\u0301 au lait"
    encoded = bcrypt.hashpw(decomposed.encode(), bcrypt.gensalt(4)).decode()
    assert Argon2id(memory=8, passes=1).verify(decomposed, encoded)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.from_regex(r"\$(2b|argon2id|pbkdf2-sha256)\$.{0,80}", fullmatch=True))
def test_whatever_is_given_the_answer_is_no(password: str, encoded: str) -> None:
    if not readable(encoded):
        assert verify_imported(password, encoded) is False
