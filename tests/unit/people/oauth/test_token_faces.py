"""Introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from tests.oauth_support import OAuthHarness, basic, claims_of, oauth
from tests.people_harness import PASSWORD

FLOWS = ["password", "refresh_token"]


async def grants(h: OAuthHarness) -> tuple[str, dict[str, Any]]:
    """A client's secret, and what a person gave it."""
    await h.people.add("ann@bank.example")
    secret = (await h.client("shop", grants=FLOWS, scopes=["openid", "profile"]))["secret"]
    login = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid"}
    return secret, (await h.token("password", basic("shop", secret), **login)).json()


async def introspect(h: OAuthHarness, token: str, headers: dict[str, str], **form: str) -> dict[str, Any]:
    answer = await h.post("introspect", {"token": token, **form}, headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_a_client_sees_its_own_tokens_and_those_meant_for_it() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret, given = await grants(h)
            curious = (await h.client("curious"))["secret"]
            judge = (await h.client("judge", serves=["bank.example"]))["secret"]
            shown = await introspect(h, given["access_token"], basic("shop", secret))
            claims = claims_of(given["access_token"])
            assert shown["active"] is True
            for name in ("sub", "client_id", "scope", "aud", "iss", "exp", "iat", "jti", "sid"):
                assert shown[name] == claims[name]
            assert (await introspect(h, given["access_token"], basic("judge", judge)))["active"] is True
            assert await introspect(h, given["access_token"], basic("curious", curious)) == {"active": False}
            refresh = await introspect(h, given["refresh_token"], basic("shop", secret))
            assert (refresh["active"], refresh["scope"]) == (True, "openid")
            for other in (basic("judge", judge), basic("curious", curious)):
                assert await introspect(h, given["refresh_token"], other) == {"active": False}
            for hint in ("access_token", "refresh_token", "x"):  # a hint, and no more
                assert (await introspect(h, given["access_token"], basic("shop", secret), token_type_hint=hint))[
                    "active"
                ]

    asyncio.run(scenario())


def test_who_asks_must_prove_itself() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            _, given = await grants(h)
            await h.client("app", method="none", redirect_uris=["https://app.example/cb"])
            for headers, form in (
                ({}, {}),
                ({}, {"client_id": "app"}),
                ({}, {"client_id": "shop"}),
                (basic("shop", "x" * 43), {}),
                ({"authorization": f"Bearer {given['access_token']}"}, {}),
            ):
                answer = await h.post("introspect", {"token": given["access_token"], **form}, headers)
                assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), headers

    asyncio.run(scenario())


def test_what_is_no_token_is_inactive_and_says_nothing() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret, given = await grants(h)
            token = given["access_token"]
            for text in (
                "x",
                "a.b.c",
                token[:-3],
                token + "A",
                given["refresh_token"][:-1],
                "fam_x",
                "é" * 9,
                "x" * 9000,
            ):
                assert await introspect(h, text, basic("shop", secret)) == {"active": False}
            missing = await h.post("introspect", {"x": "y"}, basic("shop", secret))
            assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")

    asyncio.run(scenario())


def test_a_token_is_inactive_once_it_is_over() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret, given = await grants(h)
            me = basic("shop", secret)
            account = claims_of(given["access_token"])["sub"]
            used = given["refresh_token"]
            renewed = (await h.token("refresh_token", me, refresh_token=used)).json()
            assert await introspect(h, used, me) == {"active": False}
            assert (await introspect(h, renewed["refresh_token"], me))["active"]
            await h.people.admin.patch(f"/users/{account}", json={"role": "finance"})
            assert await introspect(h, renewed["access_token"], me) == {"active": False}
            assert await introspect(h, renewed["refresh_token"], me) == {"active": False}
            login = {"username": "ann@bank.example", "password": PASSWORD}
            fresh = (await h.token("password", me, **login)).json()
            assert (await introspect(h, fresh["access_token"], me))["active"]
            h.clock.advance(3700)
            assert await introspect(h, fresh["access_token"], me) == {"active": False}

    asyncio.run(scenario())


async def revoke(h: OAuthHarness, token: str, headers: dict[str, str] | None = None) -> httpx.Response:
    answer = await h.post("revoke", {"token": token}, headers)
    assert (answer.status_code, answer.content) == (200, b""), answer.text
    return answer


def test_a_client_revokes_its_own_and_nobody_elses() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret, given = await grants(h)
            me, other = basic("shop", secret), basic("other", (await h.client("other"))["secret"])
            for headers in (other, {}):
                for name in ("access_token", "refresh_token"):  # section 2.1: refused, and the client is told
                    answer = await h.post("revoke", {"token": given[name]}, headers)
                    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
            assert (await introspect(h, given["access_token"], me))["active"]
            assert (await introspect(h, given["refresh_token"], me))["active"]
            await revoke(h, given["access_token"], me)
            assert await introspect(h, given["access_token"], me) == {"active": False}
            headers = {"authorization": f"Bearer {given['access_token']}"}
            assert (await h.people.api.get("/auth/userinfo", headers=headers)).status_code == 401
            renewed = (await h.token("refresh_token", me, refresh_token=given["refresh_token"])).json()
            await revoke(h, renewed["refresh_token"], me)
            for name in ("access_token", "refresh_token"):  # RFC 7009 section 2.1: what descends from it falls, too
                assert await introspect(h, renewed[name], me) == {"active": False}
            recorded = [event.details["client"] for event in h.events("people.token_revoked")]
            assert recorded == ["shop", "shop"]
            wrong = await h.post("revoke", {"token": given["access_token"]}, basic("shop", "x" * 43))
            assert wrong.status_code == 401

    asyncio.run(scenario())


def test_who_logged_in_without_a_client_logs_out_without_one() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            given = await h.session()
            await revoke(h, given["refresh_token"])
            again = await h.token("refresh_token", refresh_token=given["refresh_token"])
            assert again.json()["error"] == "invalid_grant"
            headers = {"authorization": f"Bearer {given['access_token']}"}
            assert (await h.people.api.get("/auth/userinfo", headers=headers)).status_code == 401

    asyncio.run(scenario())
