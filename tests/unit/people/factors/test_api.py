"""The JSON face of one's own factors: who may ask, from which page, and what goes on after a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pyotp
import pytest
from tests.people_harness import PASSWORD, Harness, came_from, harness
from tests.software_authenticator import SoftwareAuthenticator

from rempart.people.model import Authenticated, Origin
from rempart.people.sessions.cookies import SESSION_COOKIE
from rempart.people.sessions.model import Kind

ANN = "ann@bank.example"
IP = "203.0.113.7"
HERE = Origin(ip=IP)
NEW = "another river of quiet stones 7"
PAGE = {**came_from(IP), "origin": "https://localhost:8443"}


def run(scenario: Callable[[Harness], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        async with harness(**settings) as h:
            await scenario(h)

    asyncio.run(inside())


async def browser(h: Harness) -> None:
    """Ann has an account and is signed in with the harness's client."""
    await h.add(ANN)
    who = await h.people.logins.authenticate(ANN, PASSWORD, None, None, HERE)
    assert isinstance(who, Authenticated)
    opened = await h.people.sessions.open(who, Kind.WEB, HERE)
    h.api.cookies.set(SESSION_COOKIE, opened.token, domain="people.local")


def cookie(answer: httpx.Response) -> str | None:
    return answer.cookies.get(SESSION_COOKIE)


def test_a_browser_sets_up_each_factor_and_stays_signed_in() -> None:
    async def scenario(h: Harness) -> None:
        await browser(h)
        setup = (await h.api.post("/auth/factors/totp", headers=PAGE)).json()
        code = pyotp.TOTP(setup["secret"]).at(int(h.clock.now()))
        wrong = await h.api.post("/auth/factors/totp/confirm", json={"code": "000000"}, headers=PAGE)
        assert (wrong.status_code, wrong.json()["code"]) == (401, "factor_failed")
        done = await h.api.post("/auth/factors/totp/confirm", json={"code": code}, headers=PAGE)
        assert (done.status_code, len(done.json()["backup_codes"])) == (200, 10)
        assert done.headers["cache-control"] == "no-store"
        assert cookie(done)
        assert done.cookies.get("__Host-rempart-device")
        options = (await h.api.post("/auth/factors/passkeys/options", headers=PAGE)).json()
        body = {"name": "laptop", "passkey": SoftwareAuthenticator().create(options)}
        assert (await h.api.post("/auth/factors/passkeys", json=body, headers=PAGE)).json() == {}
        listed = (await h.api.get("/auth/factors", headers=PAGE)).json()
        assert (listed["totp"], listed["backup_codes"], listed["demanded"]) == (True, 10, False)
        key = listed["passkeys"][0]
        assert (key["name"], "public_key" in key) == ("laptop", False)
        one = f"/auth/factors/passkeys/{key['id']}"
        assert (await h.api.patch(one, json={"name": "work"}, headers=PAGE)).status_code == 204
        assert (await h.api.delete(one, headers=PAGE)).status_code == 200
        assert (await h.api.delete(one, headers=PAGE)).json()["code"] == "no_such_passkey"
        assert len((await h.api.post("/auth/factors/backup-codes", headers=PAGE)).json()["backup_codes"]) == 10
        assert (await h.api.delete("/auth/factors/totp", headers=PAGE)).status_code == 200
        listed = (await h.api.get("/auth/factors", headers=PAGE)).json()
        assert listed == {"totp": False, "passkeys": [], "backup_codes": 0, "demanded": False}

    run(scenario)


def test_a_new_password_by_browser_and_by_tool() -> None:
    async def scenario(h: Harness) -> None:
        await browser(h)
        done = await h.api.post("/auth/password", json={"old": PASSWORD, "new": NEW}, headers=PAGE)
        assert (done.status_code, done.json()) == (200, {})
        assert cookie(done)
        token = (await h.login(ANN, NEW)).json()["access_token"]
        tool = {**came_from(IP), "authorization": f"Bearer {token}"}
        done = await h.api.post("/auth/password", json={"old": NEW, "new": PASSWORD}, headers=tool)
        assert (done.status_code, cookie(done)) == (200, None)
        assert (await h.api.get("/auth/factors", headers=tool)).status_code == 401  # it ended with the change
        assert (await h.login(ANN)).status_code == 200

    run(scenario)


@pytest.mark.parametrize("origin", [None, "https://evil.example", "https://localhost:8443.evil.example", "null"])
def test_another_sites_page_changes_nothing(origin: str | None) -> None:
    async def scenario(h: Harness) -> None:
        await browser(h)
        headers = {**came_from(IP), **({"origin": origin} if origin else {})}
        for method, path in (
            ("POST", "/auth/factors/totp"),
            ("DELETE", "/auth/factors/totp"),
            ("POST", "/auth/factors/passkeys/options"),
            ("POST", "/auth/password"),
        ):
            answer = await h.api.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "other_page"), path

    run(scenario)


def test_nobody_and_other_clients_tokens_are_refused() -> None:
    async def scenario(h: Harness) -> None:
        assert (await h.api.get("/auth/factors", headers=PAGE)).status_code == 401
        assert (await h.api.post("/auth/factors/totp", headers=PAGE)).status_code == 401
        bad = {**came_from(IP), "authorization": "Bearer nonsense"}
        assert (await h.api.get("/auth/factors", headers=bad)).status_code == 401

    run(scenario)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"code": 5}', '{"code": "000000", "more": 1}', "\x00", "{" * 999])
def test_no_body_is_a_500(body: str) -> None:
    async def scenario(h: Harness) -> None:
        await browser(h)
        headers = {**PAGE, "content-type": "application/json"}
        for path in ("totp/confirm", "passkeys"):
            answer = await h.api.post(f"/auth/factors/{path}", content=body, headers=headers)
            assert answer.status_code in (400, 409), answer.text
        for passkey in (
            {},
            {"response": 5},
            {"response": {}},
            {"id": "x", "rawId": "x", "response": {"clientDataJSON": "e30"}},
        ):
            answer = await h.api.post("/auth/factors/passkeys", json={"name": "x", "passkey": passkey}, headers=PAGE)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_passkey")

    run(scenario)
