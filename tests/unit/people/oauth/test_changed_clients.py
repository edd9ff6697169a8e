"""A client is changed while its tokens stand; what it may do from then on is what it is registered for now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.oauth_support import OAuthHarness, basic, claims_of, oauth
from tests.people_harness import PASSWORD

OLD, NEW = "a secret of sixteen", "another one of sixteen"
FLOWS = {
    "grants": ["authorization_code", "password", "refresh_token"],
    "redirect_uris": ["https://shop.example/cb"],
    "scopes": ["openid", "email", "billing"],
    "secret": OLD,
}


async def change(h: OAuthHarness, **changes: Any) -> Any:
    return await h.people.admin.patch("/clients/shop", json=changes)


async def signed_in(h: OAuthHarness) -> dict[str, Any]:
    await h.people.add("ann@bank.example")
    await h.client("shop", **FLOWS)
    login = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid email billing"}
    answer = await h.token("password", basic("shop", OLD), **login)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_what_is_named_changes_the_rest_and_the_tokens_stay() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            held = await signed_in(h)
            before = (await h.people.admin.get("/clients/shop")).json()
            answer = await change(h, redirect_uris=["https://shop.example/new"], name="The shop", access_ttl=60)
            assert answer.status_code == 200, answer.text
            changed = {"redirect_uris": ["https://shop.example/new"], "name": "The shop", "access_ttl": 60}
            assert answer.json() == before | changed == (await h.people.admin.get("/clients/shop")).json()
            headers = {"authorization": f"Bearer {held['access_token']}"}
            assert (await h.people.api.get("/auth/userinfo", headers=headers)).status_code == 200
            renewed = await h.token("refresh_token", basic("shop", OLD), refresh_token=held["refresh_token"])
            assert renewed.json()["expires_in"] == 60
            event = h.events("people.client_changed")[-1]
            assert (event.before["name"], event.after["name"]) == ("shop", "The shop")
            assert event.operator

    asyncio.run(scenario())


def test_a_new_secret_ends_the_old_one_and_nothing_else() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            held = await signed_in(h)
            assert (await change(h, secret=NEW)).status_code == 200
            form = {"refresh_token": held["refresh_token"]}
            assert (await h.token("refresh_token", basic("shop", OLD), **form)).status_code == 401
            assert (await h.token("refresh_token", basic("shop", NEW), **form)).status_code == 200
            made = (await change(h, secret="")).json()["secret"]
            assert len(made) == 43
            assert (await h.token("refresh_token", basic("shop", NEW), **form)).status_code == 401
            told = [str(event) for event in h.events("people.client_changed")]
            assert not any(NEW in one or made in one for one in told)
            assert h.events("people.client_changed")[-1].after["proof"] == "new"

    asyncio.run(scenario())


def test_a_scope_that_is_taken_away_is_gone_at_the_next_refresh() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            token = (await signed_in(h))["refresh_token"]
            assert (await change(h, scopes=["openid", "email"])).status_code == 200
            answer = await h.token("refresh_token", basic("shop", OLD), refresh_token=token)
            assert answer.json()["scope"] == claims_of(answer.json()["access_token"])["scope"] == "openid email"
            assert (await change(h, scopes=["other"])).status_code == 200
            last = await h.token("refresh_token", basic("shop", OLD), refresh_token=answer.json()["refresh_token"])
            assert (last.status_code, last.json()["error"]) == (400, "invalid_scope")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uris": ["http://shop.example/cb"]},
        {"redirect_uris": []},
        {"secret": "short"},
        {"jwks": [{"kty": "EC"}]},
        {"certificate_subject": "dns:a.example"},
        {"grants": ["client_credentials", "refresh_token"]},
        {"id": "other"},
        {"method": "none"},
        {"name": ""},
        {"access_ttl": 1},
    ],
)
def test_nothing_becomes_what_could_not_be_registered(changes: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.client("shop", **FLOWS)
            before = (await h.people.admin.get("/clients/shop")).json()
            assert (await change(h, **changes)).status_code == 400
            assert (await h.people.admin.get("/clients/shop")).json() == before
            assert (await h.people.admin.patch("/clients/nobody", json={"name": "x"})).status_code == 404

    asyncio.run(scenario())


def test_of_changes_at_once_none_is_lost_unnoticed() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.client("shop", **FLOWS)
            answers = await asyncio.gather(*(change(h, name=f"Shop {n}") for n in range(4)), change(h, access_ttl=99))
            kept = (await h.people.admin.get("/clients/shop")).json()
            done = [answer for answer in answers if answer.status_code == 200]
            assert {answer.status_code for answer in answers} <= {200, 409}
            assert kept["name"] in {answer.json()["name"] for answer in done}
            assert (kept["access_ttl"] == 99) is (answers[-1].status_code == 200)

    asyncio.run(scenario())
