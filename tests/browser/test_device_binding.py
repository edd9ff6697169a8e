"""Chromium binds its session to a key of its device, by itself, and whoever copies its cookie is not signed in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page
from tests.device_browser import cookies, device_browser
from tests.people_site import PASSWORD, PeopleSite, people_site
from tests.support import eventually

from rempart.people.requests import DEVICE_PROOF_COOKIE
from rempart.people.sessions.cookies import SESSION_COOKIE


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleSite]:
    with people_site() as site:
        yield site


@pytest.fixture
def browser(people: PeopleSite, tmp_path: Path) -> Iterator[BrowserContext]:
    certificates = ((people.process.directory / name / "tls.pem").read_bytes() for name in ("tls", "client"))
    with device_browser(tmp_path / "profile", *certificates) as context:
        yield context


def sign_in(people: PeopleSite, page: Page) -> str:
    email = people.add()
    page.goto(f"{people.origin}/auth/sign-in")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(f"{people.origin}/auth/account")
    return email


def test_chromium_binds_its_session_and_a_copied_cookie_is_worth_nothing(
    people: PeopleSite, browser: BrowserContext
) -> None:
    page = browser.pages[0]
    sign_in(people, page)
    eventually(lambda: DEVICE_PROOF_COOKIE in cookies(browser), within=10)
    assert cookies(browser)[DEVICE_PROOF_COOKIE]["httpOnly"]
    page.goto(f"{people.origin}/auth/account/sessions")
    assert "bound to a key of the device" in page.inner_text("main")

    first = cookies(browser)[DEVICE_PROOF_COOKIE]["value"]
    browser.clear_cookies(name=DEVICE_PROOF_COOKIE)  # it is over
    page.goto(f"{people.origin}/auth/account")  # Chromium proves its key before it asks for the page
    assert page.url == f"{people.origin}/auth/account"
    assert cookies(browser)[DEVICE_PROOF_COOKIE]["value"] != first

    stolen = cookies(browser)[SESSION_COOKIE]["value"]
    agent = page.evaluate("navigator.userAgent")
    headers = {"user-agent": agent, "accept-language": "en-GB", "cookie": f"{SESSION_COOKIE}={stolen}"}
    with httpx.Client(verify=False, headers=headers) as thief:

        def sent_away() -> bool:
            return thief.get(f"{people.origin}/auth/account").status_code == 303

        eventually(sent_away, within=30)  # since the session was bound, a few seconds are let pass
    page.reload()
    assert page.url == f"{people.origin}/auth/account"
    kinds = [(event["type"], event.get("reason")) for event in people.process.journal()]
    assert ("people.session_opened", "bound to a key of its device") in kinds
    assert any(kind == "people.session_suspect" for kind, _ in kinds)


def test_chromium_forgets_the_key_of_a_session_that_its_person_ended(
    people: PeopleSite, browser: BrowserContext
) -> None:
    page = browser.pages[0]
    sign_in(people, page)
    eventually(lambda: DEVICE_PROOF_COOKIE in cookies(browser), within=10)
    page.goto(f"{people.origin}/auth/sign-out")
    page.click("main button[type=submit]")
    page.wait_for_url("**/auth/signed-out")
    assert not {SESSION_COOKIE, DEVICE_PROOF_COOKIE} & set(cookies(browser))
    sign_in(people, page)  # the next session gets a key of its own
    eventually(lambda: DEVICE_PROOF_COOKIE in cookies(browser), within=10)
    page.goto(f"{people.origin}/auth/account")
    assert page.url == f"{people.origin}/auth/account"


def test_an_application_elsewhere_finds_its_person_signed_in_after_the_short_cookie_ended(
    people: PeopleSite, browser: BrowserContext
) -> None:
    people.register("shop")
    page = browser.pages[0]
    sign_in(people, page)
    eventually(lambda: DEVICE_PROOF_COOKIE in cookies(browser), within=10)
    eventually(lambda: bound_for(people) > 12, within=30)  # what was under way when it was bound is let pass no more
    page.goto(f"{people.client}/shop")
    browser.clear_cookies(name=DEVICE_PROOF_COOKIE)
    page.evaluate("address => { location.href = address }", people.authorize("shop"))
    page.wait_for_url(lambda url: not url.startswith(f"{people.client}/shop"))
    assert "code=" in page.url, page.url


def bound_for(people: PeopleSite) -> float:
    """Seconds since the newest session was bound."""
    bound = [event for event in people.process.journal() if event.get("reason") == "bound to a key of its device"]
    return time.time() - max(event["at"] / 1000 if event["at"] > 1e11 else event["at"] for event in bound)
