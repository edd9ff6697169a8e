"""What a client held falls with it, and a later client of the same id doesn't bring it back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.oauth_support import OAuthHarness, basic, claims_of, oauth
from tests.people_harness import PASSWORD

SECRET = "a secret that an operator chose"  # the same at both registrations: nothing else tells them apart
FLOWS = {"grants": ["password", "refresh_token", "client_credentials"], "scopes": ["openid"], "secret": SECRET}
AUTH = basic("shop", SECRET)


async def held(h: OAuthHarness) -> dict[str, Any]:
    login = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid"}
    answer = await h.token("password", AUTH, **login)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def active(h: OAuthHarness, token: str) -> bool:
    return bool((await h.post("introspect", {"token": token}, AUTH)).json()["active"])


async def userinfo(h: OAuthHarness, token: str) -> int:
    answer = await h.people.api.get("/auth/userinfo", headers={"authorization": f"Bearer {token}"})
    return answer.status_code


@pytest.mark.parametrize("seconds", [0.0, 0.4, 10.0])
@pytest.mark.parametrize("again", [False, True])
def test_a_deleted_clients_tokens_are_dead_whoever_has_its_id_now(again: bool, seconds: float) -> None:
    """Also within the second in which they were issued, and at the very same reading of the clock."""

    async def scenario() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            await h.client("shop", **FLOWS)
            mine = (await h.token("client_credentials", AUTH)).json()["access_token"]
            given = await held(h)
            assert await userinfo(h, given["access_token"]) == 200
            h.clock.advance(seconds)
            assert (await h.people.admin.delete("/clients/shop")).status_code == 200
            if again:
                await h.client("shop", **FLOWS)
                for token in (mine, given["access_token"], given["refresh_token"]):
                    assert not await active(h, token)
            assert await userinfo(h, given["access_token"]) == 401
            refused = await h.token("refresh_token", AUTH, refresh_token=given["refresh_token"])
            assert (refused.status_code, refused.json()["error"]) == (
                (400, "invalid_grant") if again else (401, "invalid_client")
            )
            if again:
                h.clock.advance(2)
                fresh = await held(h)
                assert await userinfo(h, fresh["access_token"]) == 200
                assert await active(h, fresh["refresh_token"])
                renewed = await h.token("refresh_token", AUTH, refresh_token=fresh["refresh_token"])
                assert claims_of(renewed.json()["access_token"])["client_id"] == "shop"

    asyncio.run(scenario())


def test_a_token_of_a_new_client_stands_in_the_second_of_its_registration() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            await h.client("shop", **FLOWS)
            given = await held(h)
            assert await userinfo(h, given["access_token"]) == 200
            for token in (given["access_token"], given["refresh_token"]):
                assert await active(h, token)

    asyncio.run(scenario())
