"""Tools keep an opaque session, bound to their key where they have one, and its person sees and ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from tests.oauth_support import Prover
from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import Unavailable

SESSIONS = "https://localhost:8443/auth/sessions"
HOME = {**came_from("203.0.113.7"), "user-agent": "tool/1.0", "accept-language": "en"}
ELSEWHERE = {**came_from("198.51.100.9"), "user-agent": "curl/8.14", "accept-language": "en"}


def with_people(scenario: Callable[[Harness], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def body() -> None:
        async with harness(**settings) as h:
            await h.add("ann@bank.example")
            await scenario(h)

    asyncio.run(body())


async def open_session(h: Harness, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"email": "ann@bank.example", "password": PASSWORD, **more}
    return await h.api.post("/auth/sessions", json=body, headers={**HOME, **(headers or {})})


async def use(h: Harness, token: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return await h.api.post(
        "/auth/sessions/token", headers={**HOME, **(headers or {}), "authorization": f"Session {token}"}
    )


async def listed(h: Harness, token: str) -> list[dict[str, Any]]:
    answer = await h.api.get("/auth/sessions", headers={**HOME, "authorization": f"Session {token}"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["sessions"]
    return found


def prover(h: Harness) -> Prover:
    return Prover(h.clock, SigningKey.generate("ES256"))


def test_a_session_buys_access_tokens_until_it_ends() -> None:
    async def scenario(h: Harness) -> None:
        opened = await open_session(h, kind="api")
        assert opened.status_code == 201
        assert opened.headers["cache-control"] == "no-store"
        token, document = opened.json()["session"], opened.json()
        assert (document["kind"], document["bound_to_key"]) == ("api", False)
        granted = await use(h, token)
        assert granted.status_code == 200
        claims = h.people.tokens.verify(granted.json()["access_token"])
        assert claims.raw["sid"] == document["id"]
        bearer = {"authorization": "Bearer " + granted.json()["access_token"]}
        assert (await h.api.get("/auth/sessions", headers=bearer)).status_code == 200
        ended = await h.api.delete("/auth/sessions/current", headers={**HOME, "authorization": f"Session {token}"})
        assert ended.status_code == 204
        over = await use(h, token)
        assert (over.status_code, over.json()["code"]) == (401, "invalid_session")
        assert (await h.api.get("/auth/sessions", headers=bearer)).status_code == 401  # its tokens end with it

    with_people(scenario)


def test_a_token_ends_with_its_session_at_the_latest() -> None:
    async def scenario(h: Harness) -> None:
        opened = await open_session(h, kind="api")
        granted = (await use(h, opened.json()["session"])).json()
        claims = h.people.tokens.verify(granted["access_token"])
        assert granted["expires_in"] == 600
        assert claims.expires_at == h.clock.now() + 600

    from rempart.people.sessions.model import LIMITS, Kind, Limits
    from rempart.wiring.people_sessions import SessionSettings

    with_people(scenario, sessions=SessionSettings(limits={**LIMITS, Kind.API: Limits(idle=600, absolute=3600)}))


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"password": "wrong password here"}, 401, "login_failed"),
        ({"email": "nobody@bank.example"}, 401, "login_failed"),
        ({"kind": "web"}, 400, "bad_body"),
        ({"extra": 1}, 400, "bad_body"),
    ],
)
def test_who_is_not_proved_gets_none(more: dict[str, Any], status: int, code: str) -> None:
    async def scenario(h: Harness) -> None:
        answer = await open_session(h, **more)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    with_people(scenario)


@pytest.mark.parametrize(
    "authorization", ["", "Session", "Session ", "Session x", "Bearer " + "A" * 43, "Session " + "A" * 43, "Basic eA=="]
)
def test_what_is_no_session_is_refused(authorization: str) -> None:
    async def scenario(h: Harness) -> None:
        answer = await h.api.post("/auth/sessions/token", headers={**HOME, "authorization": authorization})
        assert answer.status_code == 401
        assert answer.json()["code"] in ("missing_session", "invalid_session")

    with_people(scenario)


def test_a_bound_session_is_of_use_only_with_its_key_and_dies_in_other_hands() -> None:
    async def scenario(h: Harness) -> None:
        mine, thief = prover(h), prover(h)
        opened = (await open_session(h, headers=mine.proof(url=SESSIONS))).json()
        token = opened["session"]
        assert opened["bound_to_key"]
        url = SESSIONS + "/token"
        proof = mine.proof(url=url, access_token=token)
        assert (await use(h, token, proof)).status_code == 200
        replayed = await use(h, token, proof)
        assert (replayed.status_code, replayed.json()["code"]) == (401, "invalid_dpop_proof")
        assert replayed.headers["dpop-nonce"]
        for bad in (
            mine.proof(url=url, access_token="other"),
            mine.proof(url=SESSIONS, access_token=token),
            mine.proof("GET", url, access_token=token),
            mine.proof(url=url, access_token=token, iat=int(h.clock.now()) - 3600),
        ):
            assert (await use(h, token, bad)).status_code == 401
        assert (
            await use(h, token, mine.proof(url=url, access_token=token))
        ).status_code == 200  # mistakes kill nothing
        stolen = await use(h, token, thief.proof(url=url, access_token=token))
        assert (stolen.status_code, stolen.json()["code"]) == (401, "invalid_session")
        assert (await use(h, token, mine.proof(url=url, access_token=token))).status_code == 401
        last = next(e for e in reversed(h.recorder.events) if str(e.type) == "people.session_ended")
        assert (last.severity, last.details["session"]) == ("high", opened["id"])

    with_people(scenario)


def test_without_any_proof_a_bound_session_dies() -> None:
    async def scenario(h: Harness) -> None:
        mine = prover(h)
        token = (await open_session(h, headers=mine.proof(url=SESSIONS))).json()["session"]
        assert (await use(h, token)).status_code == 401
        proof = mine.proof(url=SESSIONS + "/token", access_token=token)
        assert (await use(h, token, proof)).json()["code"] == "invalid_session"

    with_people(scenario)


def test_fapi2_opens_bound_sessions_only_and_binds_their_tokens() -> None:
    async def scenario(h: Harness) -> None:
        mine = prover(h)
        bare = await open_session(h)
        assert (bare.status_code, bare.json()["code"]) == (401, "invalid_dpop_proof")
        mine.nonce = bare.headers["dpop-nonce"]
        opened = await open_session(h, headers=mine.proof(url=SESSIONS))
        assert opened.status_code == 201, opened.text
        token = opened.json()["session"]
        granted = (await use(h, token, mine.proof(url=SESSIONS + "/token", access_token=token))).json()
        assert granted["token_type"] == "DPoP"
        assert h.people.tokens.verify(granted["access_token"]).raw["cnf"] == {"jkt": mine.jkt}

    with_people(scenario, security_profile="fapi2")


def test_a_session_from_elsewhere_is_asked_to_log_in_again() -> None:
    async def scenario(h: Harness) -> None:
        token = (await open_session(h)).json()["session"]
        answer = await use(h, token, ELSEWHERE)
        assert (answer.status_code, answer.json()["code"]) == (401, "session_doubted")
        assert (await use(h, token)).status_code == 200

    with_people(scenario)


def test_a_person_lists_all_they_are_signed_in_with_and_ends_any() -> None:
    async def scenario(h: Harness) -> None:
        one, two = [(await open_session(h, kind=kind)).json() for kind in ("cli", "api")]
        family = (await h.login("ann@bank.example")).json()
        await h.add("bob@bank.example")
        other = (await open_session(h, email="bob@bank.example")).json()
        entries = await listed(h, one["session"])
        assert sorted(entry["kind"] for entry in entries) == ["api", "cli", "tokens"]
        assert [entry["id"] for entry in entries if entry["current"]] == [one["id"]]
        mine = {**HOME, "authorization": f"Session {one['session']}"}
        assert (await h.api.delete(f"/auth/sessions/{other['id']}", headers=mine)).status_code == 404
        assert (await h.api.delete(f"/auth/sessions/{two['id']}", headers=mine)).status_code == 204
        assert (await use(h, two["session"])).status_code == 401
        tokens = next(entry["id"] for entry in entries if entry["kind"] == "tokens")
        assert (await h.api.delete(f"/auth/sessions/{tokens}", headers=mine)).status_code == 204
        assert (await h.refresh(family["refresh_token"])).status_code == 400
        ended = await h.api.delete("/auth/sessions", headers=mine)
        assert (ended.status_code, ended.json()) == (200, {"ended": 1})
        assert (await use(h, one["session"])).status_code == 401
        assert (await use(h, other["session"])).status_code == 200

    with_people(scenario)


def test_an_operator_lists_and_ends_them() -> None:
    async def scenario(h: Harness) -> None:
        one, two = [(await open_session(h)).json() for _ in range(2)]
        found = (await h.admin.get("/users/ann@bank.example/sessions")).json()["sessions"]
        assert {entry["id"] for entry in found} == {one["id"], two["id"]}
        body = {"session": one["id"]}
        assert (await h.admin.post("/users/ann@bank.example/revoke", json=body)).json() == {"revoked": 1}
        assert (await use(h, one["session"])).status_code == 401
        assert (await h.admin.post("/users/ann@bank.example/revoke", json={"session": None})).json() == {"revoked": 1}
        assert (await use(h, two["session"])).status_code == 401

    with_people(scenario)


def test_what_a_new_role_cuts_off_ends_properly() -> None:
    async def scenario(h: Harness) -> None:
        opened = (await open_session(h)).json()
        user = (await h.admin.get("/users/ann@bank.example")).json()
        assert (await h.admin.patch(f"/users/{user['id']}", json={"role": "finance"})).status_code == 200
        assert (await use(h, opened["session"])).status_code == 401
        await h.people.maintain()
        ended = [e for e in h.recorder.events if str(e.type) == "people.session_ended"]
        assert [e.details["session"] for e in ended] == [opened["id"]]

    with_people(scenario)


def test_an_unrecorded_use_gives_no_token() -> None:
    async def scenario(h: Harness) -> None:
        token = (await open_session(h)).json()["session"]
        h.recorder.failing = Unavailable("journal_unavailable", "the disk is full")
        answer = await use(h, token)
        assert answer.status_code == 503
        assert "access_token" not in answer.text
        h.recorder.failing = None
        assert (await use(h, token)).status_code == 200

    with_people(scenario)
