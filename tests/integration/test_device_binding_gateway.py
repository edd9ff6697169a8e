"""Through the real gateway and sidecars Chromium binds its session to a key of its device; its headers pass both."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from tests.device_browser import cookies, device_browser
from tests.integration.conftest import Running
from tests.support import eventually

from rempart.people.requests import DEVICE_PROOF_COOKIE


def test_a_session_is_bound_and_proved_again_through_the_gateway(bank: Running, tmp_path: Path) -> None:
    account = bank.account("user")
    where = urlsplit(bank.url)
    certificate = ssl.get_server_certificate((str(where.hostname), int(where.port or 443)), ca_certs=bank.ca)
    with device_browser(tmp_path / "profile", certificate.encode()) as browser:
        page = browser.pages[0]
        page.goto(f"{bank.url}/auth/sign-in")
        page.fill("#email", account["email"])
        page.fill("#password", account["password"])
        page.click("form:has(#password) button")
        page.wait_for_url("**/auth/account")
        eventually(lambda: DEVICE_PROOF_COOKIE in cookies(browser), within=10)
        first = cookies(browser)[DEVICE_PROOF_COOKIE]["value"]
        browser.clear_cookies(name=DEVICE_PROOF_COOKIE)  # it is over
        page.goto(f"{bank.url}/auth/account/sessions")
        assert "bound to a key of the device" in page.inner_text("main")
        assert cookies(browser)[DEVICE_PROOF_COOKIE]["value"] != first
