"""Logging in: one answer for every refusal, a record before every success, and the second factor."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.crypto.passwords import Argon2id
from rempart.crypto.totp import code, parse_secret
from rempart.kernel.errors import Unavailable

TOTP = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def now_code(h: Harness, offset: int = 0) -> str:
    return code(parse_secret(TOTP), int(h.clock.now()) // 30 + offset)


def test_every_refusal_reads_the_same() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            await h.add("otto@bank.example", totp=TOTP)
            off = await h.add("off@bank.example")
            await h.admin.patch(f"/users/{off['id']}", json={"disabled": True})
            answers = [
                await h.login("ann@bank.example", "wrong"),
                await h.login("nobody@bank.example"),
                await h.login("no address"),
                await h.login("off@bank.example"),
                await h.login("otto@bank.example"),
                await h.login("otto@bank.example", otp="000000"),
                await h.login("ann@bank.example", ""),
                await h.login("ann@bank.example", "x" * 5000),
                await h.login("ann@bank.example", "\N{GRINNING FACE}"),
            ]
            assert {answer.status_code for answer in answers} == {401}
            assert len({answer.text for answer in answers}) == 1
            assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1
            assert answers[0].headers["www-authenticate"].startswith("Bearer")
            assert answers[0].json()["decision_id"] == "dec_1"
            reasons = {event.reason for event in h.recorder.events if str(event.type) == "people.login_failed"}
            assert reasons == {"wrong password", "unknown account", "disabled", "no one-time code"}

    asyncio.run(scenario())


def test_a_login_that_cannot_be_recorded_is_no_login() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            h.recorder.failing = Unavailable("journal_unavailable", "the disk is full")
            answer = await h.login("ann@bank.example")
            assert (answer.status_code, answer.json()["code"]) == (503, "journal_unavailable")
            assert "access_token" not in answer.text
            assert (await h.login("nobody@bank.example")).status_code == 503
            h.recorder.failing = None
            assert (await h.login("ann@bank.example")).status_code == 200

    asyncio.run(scenario())


def test_the_record_says_who_from_where_and_by_which_decision() -> None:
    async def scenario() -> None:
        async with harness() as h:
            account = await h.add("ann@bank.example", role="finance")
            await h.login("ann@bank.example")
            event = next(event for event in h.recorder.events if str(event.type) == "people.login")
            assert (event.person, event.role, event.ip, event.request_id) == (
                account["id"], "finance", "203.0.113.7", "req-1")  # fmt: skip
            assert event.details["decision"] == "dec_1"

    asyncio.run(scenario())


def test_another_workload_cannot_choose_its_address() -> None:
    async def scenario() -> None:
        async with harness() as h:
            body = {"email": "ann@bank.example", "password": "wrong"}
            for number in range(3):
                headers = {**came_from(f"203.0.113.{number}"), "x-spiffe-id": "spiffe://bank.example/rogue"}
                await h.api.post("/login", json=body, headers=headers)
            assert {event.ip for event in h.recorder.events} == {None}
            assert {event.details["network"] for event in h.recorder.events} == {"spiffe://bank.example/rogue"}

    asyncio.run(scenario())


def test_what_a_client_put_before_the_gateways_address_is_not_believed() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.login("nobody@bank.example", ip="6.6.6.6, 203.0.113.9")
            assert h.recorder.events[-1].ip == "203.0.113.9"

    asyncio.run(scenario())


def test_a_one_time_code_works_once_within_its_window() -> None:
    async def scenario() -> None:
        async with harness(unsafe_disabled=["login-throttle"]) as h:
            await h.add("otto@bank.example", totp=TOTP)

            async def try_code(given: str) -> int:
                return (await h.login("otto@bank.example", otp=given)).status_code

            assert await try_code(now_code(h, -2)) == 401
            assert await try_code(now_code(h, 1)) == 401
            together = await asyncio.gather(*(try_code(now_code(h)) for _ in range(10)))
            assert sorted(together) == [200] + [401] * 9
            assert await try_code(now_code(h, -1)) == 401  # older than one that was used
            h.clock.advance(60)
            assert await try_code(now_code(h, -1)) == 200
            answer = await h.login("otto@bank.example", otp=now_code(h))
            assert answer.status_code == 200
            claims = h.people.tokens.verify(answer.json()["access_token"])
            assert claims.amr == ("pwd", "otp", "mfa")
            h.clock.advance(30)
            assert (await h.login("otto@bank.example", "wrong", otp=now_code(h))).status_code == 401
            assert await try_code(now_code(h)) == 200  # a code with a wrong password is not used up

    asyncio.run(scenario())


def test_a_totp_secret_is_not_readable_at_rest(tmp_path: Any) -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("otto@bank.example", totp=TOTP)
            found = await h.people.store.by_email("otto@bank.example")
            assert found is not None
            assert found[1].totp is not None
            assert parse_secret(TOTP) not in found[1].totp

    asyncio.run(scenario())


def test_hashes_are_renewed_at_login_when_parameters_rise() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            h.people.logins._hasher = Argon2id(memory=64, passes=2)
            assert (await h.login("ann@bank.example")).status_code == 200
            found = await h.people.store.by_email("ann@bank.example")
            assert found is not None
            assert "m=64,t=2" in found[1].password_hash
            assert (await h.login("ann@bank.example")).status_code == 200

    asyncio.run(scenario())


def test_a_device_that_logged_in_before_is_let_in_while_strangers_wait() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            await h.add("bob@bank.example")
            first = await h.login("ann@bank.example", ip="192.0.2.1")
            device = first.json()["device"]
            assert first.cookies["__Host-rempart-device"] == device
            attributes = first.headers["set-cookie"]
            assert all(word in attributes for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
            for number in range(120):
                await h.login("ann@bank.example", "guess", ip=f"198.51.100.{number}")
            refused = await h.login("ann@bank.example", ip="100.64.0.1")
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert (await h.login("ann@bank.example", ip="100.64.0.1", device=device)).status_code == 200
            h.api.cookies.clear()
            h.api.cookies.set("__Host-rempart-device", device)
            body = {"email": "ann@bank.example", "password": PASSWORD}
            by_cookie = await h.api.post("/login", json=body, headers=came_from("100.64.0.2"))
            assert by_cookie.status_code == 200
            assert (await h.login("ann@bank.example", ip="192.0.2.1")).status_code == 200  # the known network
            forged = device[:-1] + ("A" if device[-1] != "A" else "B")
            assert (await h.login("ann@bank.example", ip="100.64.0.9", device=forged)).status_code == 429
            bobs = (await h.login("bob@bank.example")).json()["device"]
            assert (await h.login("ann@bank.example", ip="100.64.0.9", device=bobs)).status_code == 429

    asyncio.run(scenario())


def test_an_unknown_account_is_throttled_as_a_known_one() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            seen = {}
            for email, ip in (("ann@bank.example", "192.0.2.1"), ("nobody@bank.example", "192.0.2.2")):
                answers = [await h.login(email, "guess", ip=ip) for _ in range(10)]
                seen[email] = [
                    (answer.status_code, answer.text, answer.headers.get("retry-after")) for answer in answers
                ]
            assert seen["ann@bank.example"] == seen["nobody@bank.example"]
            assert 429 in {status for status, *_ in seen["ann@bank.example"]}

    asyncio.run(scenario())


def test_a_flood_of_failures_leaves_few_events_and_none_uncounted() -> None:
    async def scenario() -> None:
        async with harness(unsafe_disabled=["login-throttle"]) as h:
            for _ in range(60):
                await h.login("ann@bank.example", "guess")
            for number in range(200):
                await h.login(f"spray{number}@bank.example", "guess")
            await h.people.refusals.flush()
            failed = [event for event in h.recorder.events if str(event.type) == "people.login_failed"]
            assert len(failed) < 100
            # The first of a kind counts for itself, a later event for the number that it names.
            assert sum(event.details.get("count", 1) for event in failed) == 260

    asyncio.run(scenario())


def test_a_full_line_is_told_to_come_back() -> None:
    async def scenario() -> None:
        async with harness() as h:
            await h.add("ann@bank.example")
            h.people.pool._waiting = 0
            answer = await h.login("ann@bank.example")
            assert (answer.status_code, answer.json()["code"]) == (429, "login_busy")
            assert answer.headers["retry-after"] == "2"
            h.people.pool._waiting = 64
            assert (await h.login("ann@bank.example")).status_code == 200

    asyncio.run(scenario())
