"""Pages through the real gateway and sidecars, in Chromium: policy lets them through, Envoy leaves them as they are."""

from __future__ import annotations

import ssl

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser
from tests.browser.conftest import chromium
from tests.integration.conftest import Running
from tests.pages_tour import HARMLESS, press

__all__ = ["chromium"]  # a fixture


def test_a_person_signs_in_looks_at_their_account_and_signs_out(bank: Running, chromium: Browser) -> None:
    account = bank.account("user")
    context = chromium.new_context(ignore_https_errors=True, locale="fr")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if HARMLESS not in message.text else None)
    try:
        page.goto(f"{bank.url}/auth/account")
        assert page.locator("h1").inner_text() == "Se connecter"
        page.fill("#email", account["email"])
        page.fill("#password", account["password"])
        press(page, "form:has(#password) button")
        if page.locator("#code").count():
            page.fill("#code", pyotp.TOTP(account["totp"]).now())
            press(page, "form:has(#code) button")
        assert page.locator("h1").inner_text() == "Profil"
        assert page.evaluate("getComputedStyle(document.body).display") == "flex"  # the style sheet arrived
        page.goto(f"{bank.url}/auth/account/activity")
        assert "127.0.0.1" in page.locator("main").inner_text()
        page.goto(f"{bank.url}/auth/sign-out")
        press(page, "main form button")
        page.goto(f"{bank.url}/auth/account")
        assert page.locator("h1").inner_text() == "Se connecter"
    finally:
        context.close()
    assert complaints == []


@pytest.mark.parametrize(
    "path", ["sign-in", "sign-in?interaction=%00&lang=%ff", "device?user_code=%f0%28", "reset?token=../x", "nowhere"]
)
def test_what_a_stranger_opens_is_a_page_or_a_refusal_with_its_headers(bank: Running, path: str) -> None:
    answer = httpx.get(f"{bank.url}/auth/{path}", verify=ssl.create_default_context(cafile=bank.ca))
    assert answer.status_code in (200, 400, 404)
    assert answer.headers.get_list("x-content-type-options") in (["nosniff"], [])
    if answer.headers["content-type"].startswith("text/html"):
        assert len(answer.headers.get_list("content-security-policy")) == 1
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
