"""However a password was hashed before, the next login hashes it today's way; one setting brings a pepper."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import bcrypt
import pytest
from tests.people_harness import PASSWORD, WEAK_HASH, Harness, harness

from rempart.crypto.passwords import Argon2id
from rempart.kernel.errors import BadInput
from rempart.wiring.people_factors import FactorSettings

ANN = "ann@bank.example"


def _pbkdf2(kind: str) -> str:
    derived = hashlib.pbkdf2_hmac(kind, PASSWORD.encode(), b"sixteen bytes ok", 1000, 64)
    salt_text, text = (base64.b64encode(part).decode().rstrip("=") for part in (b"sixteen bytes ok", derived))
    return f"$pbkdf2-{kind}$i=1000${salt_text}${text}"


IMPORTED = {
    "bcrypt": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
    "pbkdf2-sha256": _pbkdf2("sha256"),
    "pbkdf2-sha512": _pbkdf2("sha512"),
    "weaker argon2id": Argon2id(memory=16, passes=1, lanes=2).hash(PASSWORD),
}


def run(scenario: Callable[[Harness], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with harness(**settings) as h:
            await scenario(h)

    asyncio.run(inside())


async def stored(h: Harness) -> str:
    found = await h.people.store.by_email(ANN)
    assert found is not None
    return found[1].password_hash


@pytest.mark.parametrize("kind", IMPORTED)
def test_an_imported_hash_opens_once_and_is_replaced(kind: str) -> None:
    async def scenario(h: Harness) -> None:
        await h.admin.post("/users", json={"email": ANN, "role": "user", "password_hash": IMPORTED[kind]})
        assert (await h.login(ANN, "wrong")).status_code == 401
        assert await stored(h) == IMPORTED[kind]
        assert (await h.login(ANN)).status_code == 200
        assert (await stored(h)).startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert (await h.login(ANN)).status_code == 200

    run(scenario)


def test_a_pepper_is_taken_up_at_the_next_login() -> None:
    async def scenario(h: Harness) -> None:
        await h.admin.post("/users", json={"email": ANN, "role": "user", "password_hash": WEAK_HASH.hash(PASSWORD)})
        assert (await h.login(ANN)).status_code == 200
        peppered = await stored(h)
        assert peppered.startswith("$pepper=2$argon2id$")
        assert not WEAK_HASH.verify(PASSWORD, peppered)
        assert (await h.login(ANN)).status_code == 200
        assert await stored(h) == peppered

    run(scenario, factors=FactorSettings(password_pepper=2))


def test_settings_out_of_bounds_are_refused() -> None:
    for settings in ({"password_length_with_factor": 7}, {"password_length": 7}, {"password_pepper": -1}):
        with pytest.raises(BadInput):
            run(lambda h: h.login(ANN), factors=FactorSettings(**settings))  # type: ignore[arg-type]  # never called
