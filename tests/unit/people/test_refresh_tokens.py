"""Rotation, the grace of a lost answer, reuse, and what ends a session."""

from __future__ import annotations

import asyncio

from tests.people_harness import Harness, harness

from rempart.kernel.errors import Unavailable


async def start(h: Harness) -> tuple[str, str]:
    """The account's id and a refresh token."""
    account = await h.add("ann@bank.example")
    return account["id"], (await h.login("ann@bank.example")).json()["refresh_token"]


async def error(h: Harness, token: str) -> str:
    answer = await h.refresh(token)
    return str(answer.json().get("error", answer.status_code))


def test_a_chain_of_refreshes_carries_the_account_as_it_is_now() -> None:
    async def scenario() -> None:
        async with harness() as h:
            account, token = await start(h)
            await h.admin.patch(f"/users/{account}", json={"payment_limit": 777})
            for _ in range(5):
                answer = await h.refresh(token)
                assert answer.status_code == 200
                assert answer.headers["cache-control"] == "no-store"
                token = answer.json()["refresh_token"]
                h.clock.advance(100)
            claims = h.people.tokens.verify(answer.json()["access_token"])
            assert (claims.subject, claims.payment_limit) == (account, 777)
            assert claims.auth_time < claims.issued_at

    asyncio.run(scenario())


def test_a_lost_answer_is_given_again_for_ten_seconds_only() -> None:
    async def scenario() -> None:
        async with harness() as h:
            _, first = await start(h)
            second = (await h.refresh(first)).json()["refresh_token"]
            h.clock.advance(9.9)
            assert (await h.refresh(first)).json()["refresh_token"] == second
            h.clock.advance(0.2)
            assert await error(h, first) == "invalid_grant"
            assert await error(h, second) == "invalid_grant"  # the session is over for both

    asyncio.run(scenario())


def test_reuse_is_recorded_once_with_high_severity_and_later_tries_as_refusals() -> None:
    async def scenario() -> None:
        async with harness() as h:
            account, first = await start(h)
            second = (await h.refresh(first)).json()["refresh_token"]
            third = (await h.refresh(second)).json()["refresh_token"]
            for token in (first, first, second, third):
                assert await error(h, token) == "invalid_grant"
            reused = [event for event in h.recorder.events if str(event.type) == "people.token_reused"]
            assert [(event.person, event.severity) for event in reused] == [(account, "high")]
            refused = [event for event in h.recorder.events if str(event.type) == "people.token_refused"]
            assert refused[0].reason == "revoked: reuse"

    asyncio.run(scenario())


def test_tokens_that_are_not_ours_touch_nothing() -> None:
    async def scenario() -> None:
        async with harness() as h:
            _, token = await start(h)
            family, secret, mac = token.split(".")
            changed = [f"{family}.{'A' * 43}.{mac}", f"{family}.{secret}.{mac[:-1]}", f"fam_{'0' * 26}.{secret}.{mac}"]
            for forged in (*changed, family, "", "x" * 10000, f"{family}.{secret}", token + ".", token.upper()):
                assert await error(h, forged) in ("invalid_grant", "invalid_request")
            assert (await h.refresh(token)).status_code == 200  # nobody could kill the session by naming it

    asyncio.run(scenario())


def test_disabling_changing_the_role_and_a_new_password_end_every_session() -> None:
    async def scenario() -> None:
        async with harness() as h:
            account, _ = await start(h)
            for change in ({"disabled": True}, {"role": "finance"}, None):
                token = (await h.login("ann@bank.example")).json()["refresh_token"]
                if change is None:
                    reset = await h.admin.post(f"/users/{account}/password", json={})
                    assert reset.status_code == 200
                else:
                    await h.admin.patch(f"/users/{account}", json=change)
                assert await error(h, token) == "invalid_grant"
                assert (await h.admin.get(f"/users/{account}/sessions")).json() == {"sessions": []}
                await h.admin.patch(f"/users/{account}", json={"disabled": False})
                assert await error(h, token) == "invalid_grant"  # not even when enabled again

    asyncio.run(scenario())


def test_the_grace_of_a_lost_answer_ends_with_the_account() -> None:
    async def scenario() -> None:
        async with harness() as h:
            account, first = await start(h)
            assert (await h.refresh(first)).status_code == 200
            for disabled in (True, False):
                await h.admin.patch(f"/users/{account}", json={"disabled": disabled})
                assert await error(h, first) == "invalid_grant"

    asyncio.run(scenario())


def test_a_session_ends_at_its_absolute_age() -> None:
    async def scenario() -> None:
        async with harness(refresh_ttl=1000) as h:
            _, token = await start(h)
            for _ in range(3):
                h.clock.advance(300)
                token = (await h.refresh(token)).json()["refresh_token"]
            h.clock.advance(101)
            assert await error(h, token) == "invalid_grant"

    asyncio.run(scenario())


def test_revoking_is_silent_about_what_it_knew() -> None:
    """RFC 7009 section 2.2."""

    async def scenario() -> None:
        async with harness() as h:
            _, token = await start(h)
            for given in ("nonsense", token, token):
                answer = await h.api.post("/auth/revoke", data={"token": given, "token_type_hint": "refresh_token"})
                assert (answer.status_code, answer.content) == (200, b"")
            assert await error(h, token) == "invalid_grant"
            assert [str(event.type) for event in h.recorder.events].count("people.token_revoked") == 1

    asyncio.run(scenario())


def test_an_unrecorded_refresh_gives_nothing_and_costs_nothing() -> None:
    async def scenario() -> None:
        async with harness() as h:
            _, token = await start(h)
            h.recorder.failing = Unavailable("journal_unavailable", "full")
            answer = await h.refresh(token)
            assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
            assert answer.json()["code"] == "journal_unavailable"
            h.recorder.failing = None
            assert (await h.refresh(token)).status_code == 200

    asyncio.run(scenario())


def test_oauth_errors_are_those_of_the_rfc() -> None:
    async def scenario() -> None:
        async with harness() as h:
            _, token = await start(h)
            form = "application/x-www-form-urlencoded"
            for body, media_type, expected in (
                (b"", form, "invalid_request"),
                (b"grant_type=urn:x&username=a&password=b", form, "unsupported_grant_type"),
                (b"grant_type=refresh_token", form, "invalid_request"),
                (b"grant_type=refresh_token&grant_type=refresh_token&refresh_token=x", form, "invalid_request"),
                (b"grant_type=refresh_token&refresh_token=%ff", form, "invalid_request"),
                (b'{"grant_type": "refresh_token"}', "application/json", "invalid_request"),
                (b"a=" + b"x" * 20000, form, "invalid_request"),
                (f"grant_type=refresh_token&scope=admin&refresh_token={token}".encode(), form, "invalid_scope"),
            ):
                answer = await h.api.post("/auth/token", content=body, headers={"content-type": media_type})
                status = 413 if len(body) > 16384 else 400
                assert (answer.status_code, answer.json()["error"]) == (status, expected)
                assert answer.json()["detail"]

    asyncio.run(scenario())


def test_the_store_alone_opens_no_session() -> None:
    async def scenario() -> None:
        async with harness() as h:
            _, first = await start(h)
            second = (await h.refresh(first)).json()["refresh_token"]
            dump = await h.people.database._writer.run(lambda db: "\n".join(db.iterdump()))
            for token in (first, second):
                assert token not in dump
                assert token.split(".")[1] not in dump
                assert token.split(".")[1].encode().hex().upper() not in dump

    asyncio.run(scenario())
