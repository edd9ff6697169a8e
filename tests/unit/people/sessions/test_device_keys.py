"""A browser that can binds its session to a key of its device; who copies the cookie alone has nothing.

The device here follows W3C Device Bound Session Credentials; in `tests/browser/test_device_binding.py` it is Chromium.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.oauth_support import jws, public
from tests.pages_browser import Html
from tests.people_harness import PASSWORD, Harness, came_from, harness

from rempart.crypto.jose import SigningKey
from rempart.kernel.event import Severity
from rempart.people.requests import DEVICE_PROOF_COOKIE
from rempart.people.sessions.cookies import SESSION_COOKIE
from rempart.people.sessions.device_keys import PROOF_LIFE
from rempart.people.sessions.device_keys_api import BIND, REFRESH

HOME = {**came_from("203.0.113.7"), "user-agent": "Mozilla/5.0 Chrome/156.0", "accept-language": "en"}
SAME = {"sec-fetch-site": "same-origin"}
OFFER = re.compile(r'\(ES256 RS256\);path="/auth/session/bind";challenge="([A-Za-z0-9_-]+)"')
CHALLENGE = re.compile(r'"([A-Za-z0-9_-]+)";id="(ses_[0-9a-z]{26}\.[A-Za-z0-9_-]{12})"')


@dataclass
class Device:
    """A browser with a key of its device: what it does by itself beside its person's requests."""

    h: Harness
    key: SigningKey = field(default_factory=lambda: SigningKey.generate("ES256"))
    cookies: dict[str, str] = field(default_factory=dict)
    name: str = ""
    challenge: str = ""

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        self.h.api.cookies.clear()
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = await self.h.api.request(method, path, headers={**HOME, **cookie, **SAME, **(headers or {})}, **more)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        return answer

    async def sign_in(self) -> httpx.Response:
        page = await self.ask("GET", "/auth/sign-in")
        form = {"form_token": Html(page.text).form_token, "email": "ann@bank.example", "password": PASSWORD}
        entered = await self.ask("POST", "/auth/sign-in", data=form)
        assert entered.status_code == 303, entered.text
        found = OFFER.fullmatch(entered.headers["secure-session-registration"])
        assert found
        self.challenge = found[1]
        return entered

    def proof(self, challenge: str, *, new: bool = False, **header: Any) -> str:
        """The challenge signed; `new`: with the public key."""
        head = {"alg": "ES256", "typ": "dbsc+jwt", **({"jwk": public(self.key)} if new else {}), **header}
        return jws(self.key, head, {"jti": challenge})

    async def bind(self, proof: str | None = None) -> httpx.Response:
        given = self.proof(self.challenge, new=True) if proof is None else proof
        answer = await self.ask("POST", BIND, {"secure-session-response": given})
        if answer.status_code == 200:
            self.name = answer.json()["session_identifier"]
        return answer

    async def refresh(self, proof: str | None = None, name: str = "") -> httpx.Response:
        headers = {"sec-secure-session-id": name or self.name}
        if proof is not None:
            headers["secure-session-response"] = proof
        return await self.ask("POST", REFRESH, headers)

    async def challenged(self) -> str:
        answer = await self.refresh()
        assert answer.status_code == 403
        found = CHALLENGE.fullmatch(answer.headers["secure-session-challenge"])
        assert found
        assert found[2] == self.name
        return found[1]

    async def signed_in(self) -> bool:
        return (await self.ask("GET", "/auth/account")).status_code == 200


def with_device(scenario: Callable[[Device], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def body() -> None:
        async with harness(**settings) as h:
            await h.add("ann@bank.example")
            await scenario(Device(h))

    asyncio.run(body())


async def bound(device: Device) -> None:
    await device.sign_in()
    answer = await device.bind()
    assert answer.status_code == 200, answer.text
    device.h.clock.advance(60)


def thief(device: Device, *names: str) -> Device:
    """Copied these cookies, and signs with a key of its own."""
    return Device(device.h, cookies={name: device.cookies[name] for name in names}, name=device.name)


def events(device: Device, kind: str) -> list[Any]:
    return [event for event in device.h.recorder.events if str(event.type) == kind]


def test_a_browser_registers_a_key_and_proves_it_again_every_few_minutes() -> None:
    async def scenario(device: Device) -> None:
        await device.sign_in()
        answer = await device.bind()
        assert answer.status_code == 200
        document = answer.json()
        assert document["refresh_url"] == REFRESH
        assert document["scope"]["origin"] == "https://localhost:8443"
        assert document["scope"]["include_site"] is False
        assert document["credentials"] == [
            {"type": "cookie", "name": DEVICE_PROOF_COOKIE, "attributes": "Path=/; Secure; HttpOnly; SameSite=Lax"}
        ]
        cookie = next(line for line in answer.headers.get_list("set-cookie") if DEVICE_PROOF_COOKIE in line)
        for part in (f"Max-Age={PROOF_LIFE}", "Secure", "HttpOnly", "SameSite=lax", "Path=/"):
            assert part in cookie
        assert answer.headers["cache-control"] == "no-store"
        for _ in range(3):
            device.h.clock.advance(PROOF_LIFE - 5)
            assert await device.signed_in()
            answer = await device.refresh(device.proof(await device.challenged()))
            assert answer.status_code == 200
            assert answer.json()["session_identifier"] == device.name
        ahead = CHALLENGE.fullmatch(answer.headers["secure-session-challenge"])  # the next one came with the answer
        assert ahead
        device.h.clock.advance(PROOF_LIFE)
        assert (await device.refresh(device.proof(ahead[1]))).status_code == 200
        assert await device.signed_in()
        page = await device.ask("GET", "/auth/account/sessions")
        assert "bound to a key of the device" in page.text

    with_device(scenario)


def test_who_copied_the_cookie_alone_is_asked_to_sign_in_and_the_owner_goes_on() -> None:
    async def scenario(device: Device) -> None:
        await bound(device)
        other = thief(device, SESSION_COOKIE)
        assert not await other.signed_in()
        assert await device.signed_in()
        suspect = events(device, "people.session_suspect")
        assert suspect[-1].details["signals"] == ["device_key"]
        both = thief(device, SESSION_COOKIE, DEVICE_PROOF_COOKIE)
        assert await both.signed_in()  # minutes, as the specification has it
        device.h.clock.advance(PROOF_LIFE)
        assert not await both.signed_in()
        assert not await device.signed_in()  # until its key proves itself
        await device.refresh(device.proof(await device.challenged()))
        assert await device.signed_in()

    with_device(scenario)


def test_a_proof_by_another_key_ends_the_session() -> None:
    async def scenario(device: Device) -> None:
        await bound(device)
        other = thief(device, SESSION_COOKIE)
        answer = await other.refresh(other.proof(await other.challenged()))
        assert answer.json() == {"session_identifier": device.name, "continue": False}
        assert not await device.signed_in()
        ended = events(device, "people.session_ended")[-1]
        assert (ended.severity, ended.reason) == (Severity.HIGH, "the key it is bound to was not proved")
        over = await device.refresh()
        assert over.json()["continue"] is False

    with_device(scenario)


def test_a_proof_counts_once_and_for_a_fresh_challenge_of_this_session() -> None:
    async def scenario(device: Device) -> None:
        await bound(device)
        proof = device.proof(await device.challenged())
        assert (await device.refresh(proof)).status_code == 200
        assert (await device.refresh(proof)).status_code == 403  # again: a new challenge
        stale = device.proof(await device.challenged())
        device.h.clock.advance(601)
        assert (await device.refresh(stale)).status_code == 403
        for made_up in ("x", "A" * 54, "~" * 40):
            assert (await device.refresh(device.proof(made_up))).status_code == 403
        other = Device(device.h)
        await bound(other)
        foreign = device.proof(await other.challenged())
        assert (await device.refresh(foreign)).status_code == 403
        assert await other.signed_in()  # none of that ended anybody's session
        assert (await device.refresh(device.proof(await device.challenged()))).status_code == 200
        assert await device.signed_in()

    with_device(scenario)


@pytest.mark.parametrize(
    "kind", ["replayed", "foreign", "without key", "wrong type", "nonsense", "private", "too long", "hmac"]
)
def test_a_key_is_registered_only_by_who_was_just_given_the_session(kind: str) -> None:
    async def scenario(device: Device) -> None:
        await device.sign_in()
        first = device.proof(device.challenge, new=True)
        if kind == "replayed":
            assert (await device.bind(first)).status_code == 200
            again = await device.bind(first)
            assert (again.status_code, again.json()["code"]) == (409, "already_bound")
            return
        other = Device(device.h)
        await other.sign_in()
        wrong = {
            "foreign": device.proof(other.challenge, new=True),
            "without key": device.proof(device.challenge),
            "wrong type": device.proof(device.challenge, new=True, typ="dpop+jwt"),
            "nonsense": "a.b.c",
            "private": device.proof(device.challenge, new=True, jwk={**public(device.key), "d": "AAAA"}),
            "too long": "x" * 9000,
            "hmac": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImRic2Mrand0In0.e30.AAAA",
        }[kind]
        answer = await device.bind(wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_device_proof")
        assert await device.signed_in()  # and it is not bound
        assert (await device.bind(first)).status_code == 200

    with_device(scenario)


def test_what_was_under_way_while_the_session_was_bound_is_not_sent_away() -> None:
    async def scenario(device: Device) -> None:
        await device.sign_in()
        before = thief(device, SESSION_COOKIE)
        assert (await device.bind()).status_code == 200
        assert await before.signed_in()
        device.h.clock.advance(11)
        assert not await before.signed_in()

    with_device(scenario)


def test_who_signs_in_again_binds_anew_and_is_never_locked_out_by_a_lost_key() -> None:
    async def scenario(device: Device) -> None:
        await bound(device)
        old = device.name
        del device.cookies[DEVICE_PROOF_COOKIE]  # its key is lost
        assert not await device.signed_in()
        await device.sign_in()
        assert await device.signed_in()
        over = await device.refresh(name=old)
        assert over.json() == {"session_identifier": old, "continue": False}
        device.key = SigningKey.generate("ES256")
        assert (await device.bind()).status_code == 200
        assert device.name != old
        device.h.clock.advance(60)
        assert await device.signed_in()

    with_device(scenario)


def test_signing_out_takes_both_cookies_along() -> None:
    async def scenario(device: Device) -> None:
        await bound(device)
        page = await device.ask("GET", "/auth/sign-out")
        await device.ask("POST", "/auth/sign-out", data={"form_token": Html(page.text).form_token})
        assert SESSION_COOKIE not in device.cookies
        assert DEVICE_PROOF_COOKIE not in device.cookies

    with_device(scenario)


def test_nothing_that_a_stranger_sends_breaks_the_two_addresses() -> None:
    async def scenario(device: Device) -> None:
        for path in (BIND, REFRESH):
            for name in ("secure-session-response", "sec-secure-session-id"):
                for value in ("", "x", '"', '"x', "\\" * 30, "a.b.c", "A" * 5000, '"ses_' + "0" * 26 + '"'):
                    answer = await device.ask("POST", path, {name: value})
                    assert 400 <= answer.status_code < 500 or answer.json().get("continue") is False
        fine = "ses_" + "0" * 26 + ".AAAAAAAAAAAA"
        assert (await device.refresh(name=fine)).json() == {"session_identifier": fine, "continue": False}
        assert (await device.refresh(name=f'"{fine}";x=1')).json()["continue"] is False

    with_device(scenario)


def test_switched_off_nothing_is_offered() -> None:
    async def scenario(device: Device) -> None:
        page = await device.ask("GET", "/auth/sign-in")
        form = {"form_token": Html(page.text).form_token, "email": "ann@bank.example", "password": PASSWORD}
        entered = await device.ask("POST", "/auth/sign-in", data=form)
        assert "secure-session-registration" not in entered.headers
        assert (await device.ask("POST", BIND)).status_code == 404

    from rempart.wiring.people_sessions import SessionSettings

    with_device(scenario, sessions=SessionSettings(device_binding=False))
