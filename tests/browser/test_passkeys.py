"""Passkeys in Chromium with its virtual authenticator, against the real rooms: pages, script, ceremonies, sessions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.pages_site import listen, serving
from tests.people_fakes import MemoryRecorder
from tests.people_harness import PASSWORD, WEAK_HASH

from rempart.people.accounts import Actor
from rempart.people.model import Origin
from rempart.servers.people import People, compose
from rempart.wiring.process_people import PeopleSettings

ANN = "ann@bank.example"
NO_AUTOFILL = "if (window.PublicKeyCredential) PublicKeyCredential.isConditionalMediationAvailable = async () => false;"


@dataclass
class Served:
    """The people process's own composition, made in the server's thread at the first request, with one account."""

    issuer: str
    directory: Path
    recorder: MemoryRecorder
    people: People | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._api())(scope, receive, send)

    async def _api(self) -> ASGIApp:
        if self.people is None:
            settings = PeopleSettings(issuer=self.issuer, audience="bank.example", signing_algorithm="EdDSA")
            self.people = await compose(settings, self.directory, b"k" * 32, self.recorder, hasher=WEAK_HASH)
            await self.people.accounts.add(
                email=ANN,
                role="user",
                name="Ann",
                payment_limit=None,
                password=PASSWORD,
                actor=Actor(Origin(operator="test")),
            )
        return self.people.api


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    listening = listen()
    (tmp_path / "data").mkdir()
    issuer = f"https://localhost:{listening.getsockname()[1]}/auth"
    site = Served(issuer, tmp_path / "data", MemoryRecorder())
    with serving(site, listening, tmp_path):
        yield site
    if site.people is not None:
        with ThreadPoolExecutor(1) as thread:  # Playwright has a loop in this one
            thread.submit(asyncio.run, site.people.close()).result()


@pytest.fixture
def page(chromium: Browser, served: Served) -> Iterator[Page]:
    """Closed before the site is."""
    context = chromium.new_context(ignore_https_errors=True, locale="en")
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.add_init_script(NO_AUTOFILL)
    yield page
    context.close()


def authenticator(page: Page, **options: Any) -> tuple[CDPSession, str]:
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    usual = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    added = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**usual, **options}})
    return devtools, added["authenticatorId"]


def with_password(page: Page, served: Served) -> None:
    page.goto(f"{served.issuer}/sign-in?next=/auth/account")
    page.fill("#email", ANN)
    page.fill("#password", PASSWORD)
    page.click("form:has(#password) button")


def registered(page: Page, served: Served) -> None:
    """Ann, signed in by password, adds the passkey; then this browser forgets everything."""
    with_password(page, served)
    page.wait_for_url(f"{served.issuer}/account")
    page.goto(f"{served.issuer}/account/passkey")
    page.fill("#name", "laptop")
    page.click("form.passkey button")
    expect(page.locator("body")).to_contain_text(re.compile(r"[0-9a-z]{5}-[0-9a-z]{5}"))  # the backup codes
    page.context.clear_cookies()


def last(served: Served, kind: str) -> Any:
    return [event for event in served.recorder.events if str(event.type) == kind][-1]


def test_a_passkey_alone_signs_in(page: Page, served: Served) -> None:
    authenticator(page)
    registered(page, served)
    page.goto(f"{served.issuer}/sign-in?next=/auth/account")
    page.click("form.passkey button")
    page.wait_for_url(f"{served.issuer}/account")
    assert last(served, "people.login").details["amr"] == ["hwk", "user", "mfa"]


def test_a_security_key_without_pin_is_a_second_step_only(page: Page, served: Served) -> None:
    authenticator(page, transport="usb", hasResidentKey=False, hasUserVerification=False, isUserVerified=False)
    registered(page, served)
    with_password(page, served)
    page.wait_for_url(f"{served.issuer}/sign-in/factor**")
    page.click("form.passkey button")
    page.wait_for_url(f"{served.issuer}/account")
    assert last(served, "people.login").details["amr"] == ["pwd", "hwk", "mfa"]


def test_a_copied_key_whose_counter_lags_is_refused_and_alarmed(page: Page, served: Served) -> None:
    devtools, where = authenticator(page)
    registered(page, served)

    def use() -> None:
        page.context.clear_cookies()
        page.goto(f"{served.issuer}/sign-in?next=/auth/account")
        page.click("form.passkey button")

    use()
    page.wait_for_url(f"{served.issuer}/account")
    key = devtools.send("WebAuthn.getCredentials", {"authenticatorId": where})["credentials"][0]
    devtools.send("WebAuthn.removeCredential", {"authenticatorId": where, "credentialId": key["credentialId"]})
    copy = {**key, "signCount": 0}
    devtools.send("WebAuthn.addCredential", {"authenticatorId": where, "credential": copy})
    use()
    expect(page.locator(".error, [role=alert]").first).to_be_visible()
    assert page.url.startswith(f"{served.issuer}/sign-in")
    alarms = [event.reason for event in served.recorder.events if event.severity == "high"]
    assert alarms == ["a passkey's counter went back: it may have been copied"]
