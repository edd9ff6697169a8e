"""Userinfo tells what the token's scopes allow (OpenID Connect Core sections 5.3 and 5.4)."""

from __future__ import annotations

import asyncio

import pytest
from tests.authorize_support import Room, room

from rempart.people.authorize.id_tokens import claims_of


@pytest.mark.parametrize(
    ("scopes", "names"),
    [
        (("openid",), {"sub"}),
        (("openid", "profile"), {"sub", "name", "updated_at"}),
        (("openid", "email"), {"sub", "email"}),
        (("openid", "roles"), {"sub", "role"}),
        (("session",), {"sub", "name", "updated_at", "email", "role", "payment_limit"}),
    ],
)
def test_scopes_decide_what_is_told(scopes: tuple[str, ...], names: set[str]) -> None:
    async def body(it: Room) -> None:
        account = await it.account()
        assert set(claims_of(account, scopes)) == names
        token = it.people.tokens.mint(account, session="s", amr=(), auth_time=0, scope=" ".join(scopes))
        for method in ("GET", "POST"):
            answer = await it.browser.request(method, "/auth/userinfo", headers={"authorization": f"Bearer {token}"})
            assert (answer.status_code, set(answer.json())) == (200, names)
            assert answer.headers["cache-control"] == "no-store"

    async def run() -> None:
        async with room() as it:
            await body(it)

    asyncio.run(run())


def test_a_token_without_openid_is_not_enough() -> None:
    async def run() -> None:
        async with room() as it:
            token = it.people.tokens.mint(await it.account(), session="s", amr=(), auth_time=0, scope="email")
            answer = await it.browser.get("/auth/userinfo", headers={"authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]

    asyncio.run(run())
