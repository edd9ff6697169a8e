"""Userinfo tells what the token's scopes allow (OpenID Connect Core sections 5.3 and 5.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.authorize_support import Room, room
from tests.oauth_support import ACCESS_TOKEN, EXCHANGE, basic, oauth
from tests.oauth_support import claims_of as payload_of
from tests.people_harness import PASSWORD

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


def test_a_token_for_another_server_is_good_here_if_openid_was_granted() -> None:
    """RFC 8707 restricts where it may be used; OpenID Connect Core section 5.3 makes this endpoint one such place."""

    async def run() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            more = {"audiences": ["https://api.example", "bank.example"], "scopes": ["openid", "email", "profile"]}
            shop = await h.client("shop", grants=["password", EXCHANGE], **more)
            login = {"username": "ann@bank.example", "password": PASSWORD, "resource": "https://api.example"}
            auth = basic("shop", shop["secret"])

            async def asked(token: str, path: str = "/auth/userinfo") -> Any:
                return await h.people.api.get(path, headers={"authorization": f"Bearer {token}"})

            token = (await h.token("password", auth, **login, scope="openid email")).json()["access_token"]
            assert payload_of(token)["aud"] == "https://api.example"
            answer = await asked(token)
            assert (answer.status_code, answer.json()["email"]) == (200, "ann@bank.example")
            assert (await asked(token, "/auth/factors")).status_code == 401
            without = (await h.token("password", auth, **login, scope="email")).json()["access_token"]
            assert (await asked(without)).status_code == 401
            here = (await h.token("password", auth, **{**login, "resource": "bank.example"}, scope="openid")).json()
            exchanged = await h.token(
                EXCHANGE,
                auth,
                subject_token=here["access_token"],
                subject_token_type=ACCESS_TOKEN,
                audience="https://api.example",
            )
            assert (await asked(exchanged.json()["access_token"])).status_code == 401  # another acts

    asyncio.run(run())
