"""Through every page there is, in a browser, stopping at each: for what must hold on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from playwright.sync_api import Page
from tests.pages_fakes import CODE, EMAIL, PASSWORD, Site

from rempart.people.pages.model import Connected, Next

HANDLE = "handle-of-a-request"
HARMLESS = "Failed to load resource"  # what Chromium says of every page whose status is 4xx


def sign_in(page: Page, origin: str, path: str = "/auth/account") -> None:
    page.goto(f"{origin}/auth/sign-in?next={path}&again=1")
    page.fill("#email", EMAIL)
    page.fill("#password", PASSWORD)
    press(page, "form:has(#password) button")


def press(page: Page, button: str) -> None:
    """Click what leads to another page, and be there."""
    with page.expect_navigation():
        page.locator(button).click()


def authenticator(page: Page, **more: Any) -> None:
    """A virtual platform authenticator (Chrome DevTools Protocol, WebAuthn domain)."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**options, **more}})


def tour(site: Site, page: Page, origin: str) -> Iterator[str]:
    """The name of each page, while `page` shows it."""
    yield from _strangers(site, page, origin)
    yield from _clients(site, page, origin)
    yield from _account(site, page, origin)


def _strangers(site: Site, page: Page, origin: str) -> Iterator[str]:
    page.goto(f"{origin}/auth/sign-in")
    yield "sign-in"
    page.fill("#email", EMAIL)
    page.fill("#password", "something else")
    press(page, "form:has(#password) button")
    yield "sign-in-wrong"
    page.goto(f"{origin}/auth/sign-in?notice=reset")
    yield "sign-in-notice"
    for purpose in ("lost-factor", "forgot"):
        page.goto(f"{origin}/auth/{purpose}")
        yield purpose
    page.fill("#email", EMAIL)
    press(page, "main button")
    yield "sent"
    for purpose in ("reset", "invitation", "factor-reset"):
        page.goto(f"{origin}/auth/{purpose}?token=good-{purpose}")
        yield f"link-{purpose}"
    page.goto(f"{origin}/auth/reset?token=dead-link")
    yield "link-dead"
    page.goto(f"{origin}/auth/device")
    yield "device"
    page.fill("#user_code", "XXXX-XXXX")
    press(page, "main button")
    yield "device-wrong"
    page.goto(f"{origin}/auth/sign-in?interaction=no-such-handle")
    yield "error"
    page.goto(f"{origin}/auth/signed-out")
    yield "signed-out"


def _clients(site: Site, page: Page, origin: str) -> Iterator[str]:
    page.goto(f"{origin}/auth/sign-in?interaction={HANDLE}")
    yield "sign-in-client"
    site.demanded = True
    sign_in(page, origin)
    yield "enrol"
    for way in ("authenticator", "passkey"):
        page.goto(f"{origin}/auth/sign-in/set-up/{way}")
        yield f"enrol-{way}"
    site.demanded, site.totp = False, True
    sign_in(page, origin)
    page.locator("details > summary").click()
    yield "factor"
    page.fill("#code", "000000")
    press(page, "form:has(#code) button")
    yield "factor-wrong"
    page.fill("#code", CODE)
    press(page, "form:has(#code) button")
    page.goto(f"{origin}/auth/sign-in?interaction={HANDLE}")
    yield "consent"
    site.client = replace(site.client, next=Next.SELECT_ACCOUNT)
    page.goto(f"{origin}/auth/sign-in?interaction={HANDLE}")
    yield "select-account"
    site.totp, site.client = False, replace(site.client, next=Next.STEP_UP, acr="mfa")
    page.goto(f"{origin}/auth/sign-in?interaction={HANDLE}")
    yield "factor-missing"
    page.goto(f"{origin}/auth/device?user_code=wdjb-mjht")
    yield "device-confirm"
    press(page, "button[value=approve]")
    yield "device-approved"
    page.goto(f"{origin}/auth/device/refused")
    yield "device-refused"
    page.goto(f"{origin}/auth/sign-out?request={HANDLE}")
    yield "sign-out"


def _account(site: Site, page: Page, origin: str) -> Iterator[str]:
    sign_in(page, origin)
    page.goto(f"{origin}/auth/account?done=saved")
    yield "account"
    page.goto(f"{origin}/auth/account/security")
    yield "security-none"
    page.goto(f"{origin}/auth/account/authenticator")
    page.locator("details > summary").click()
    page.fill("#code", "000000")
    press(page, "form:has(#code) button")
    yield "authenticator"
    page.fill("#code", CODE)
    press(page, "form:has(#code) button")
    yield "backup-codes"
    authenticator(page)
    page.goto(f"{origin}/auth/account/passkey")
    page.fill("#name", "My phone")
    yield "passkey"
    press(page, "form.passkey button")
    page.locator("details > summary").first.click()
    yield "security"
    page.goto(f"{origin}/auth/account/password")
    yield "password"
    page.fill("#current", "wrong")
    page.fill("#password", "a new one that is long enough")
    page.fill("#repeated", "a new one that is long enough")
    press(page, "main form button")
    yield "password-wrong"
    site.connected = [
        Connected(
            client_id="shop", client_name="Example Shop", scopes=("openid", "orders:read"), since=1_790_000_000.0
        ),
        Connected(client_id="tv", client_name="Example TV", scopes=("openid", "profile"), since=1_790_000_000.0),
    ]
    for section in ("sessions", "activity", "applications", "data"):
        page.goto(f"{origin}/auth/account/{section}")
        yield section
    page.goto(f"{origin}/auth/sign-out")
    yield "sign-out-own"
