"""The keyboard alone, from signing in over a second factor to ending another browser: nothing is out of its reach, and
what has the focus is seen to have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.people_site import PASSWORD, PeopleSite, early_code, people_site

SHOTS = os.environ.get("REMPART_SCREENSHOTS", "")
"""A directory to keep a picture of each step in, for people to look at."""


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleSite]:
    with people_site() as site:
        yield site


class Hands:
    """Presses keys and never points; every stop on the way must show where it is."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._shots = 0

    def to(self, selector: str) -> None:
        wanted = self.page.locator(selector).first
        for _ in range(60):
            self.page.keyboard.press("Tab")
            outline = self.page.evaluate(
                "(() => { const on = document.activeElement; if (on === document.body) return 'body';"
                " const style = getComputedStyle(on);"
                " return style.outlineStyle === 'none' && style.boxShadow === 'none' ? '' : 'seen' })()"
            )
            assert outline, self.page.evaluate("document.activeElement.outerHTML")
            if wanted.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"{selector} is out of reach at {self.page.url}")

    def write(self, selector: str, text: str) -> None:
        self.to(selector)
        self.page.keyboard.type(text)

    def enter(self) -> None:
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def seen(self, heading: str) -> None:
        expect(self.page.locator("h1")).to_have_text(heading)
        if SHOTS:
            self._shots += 1
            where = Path(SHOTS) / f"{self.page.viewport_size['width']}-{self._shots:02}.png"  # type: ignore[index]
            self.page.screenshot(path=where, full_page=True)


@pytest.mark.parametrize("how", ["forced-colors", "zoomed"])
def test_signing_in_a_second_factor_and_the_account_need_no_mouse(
    chromium: Browser, people: PeopleSite, how: str
) -> None:
    """`zoomed`: 200 % of a window 1280 px wide is one of 640 CSS px (WCAG 2.2, 1.4.4); nothing may stick out."""
    email = people.add()
    context = chromium.new_context(
        ignore_https_errors=True,
        locale="en",
        forced_colors="active" if how == "forced-colors" else "none",
        viewport={"width": 640 if how == "zoomed" else 1280, "height": 800},
        device_scale_factor=2 if how == "zoomed" else 1,
    )
    context.set_default_timeout(30_000)
    try:
        hands = Hands(context.new_page())
        hands.page.goto(f"{people.origin}/auth/account/authenticator")
        hands.seen("Sign in")
        hands.write("#email", email)
        hands.write("#password", PASSWORD)
        hands.enter()
        hands.seen("Set up an authenticator app")
        hands.to("details > summary")
        hands.page.keyboard.press("Enter")
        app = pyotp.TOTP(hands.page.locator("p.code").inner_text().replace(" ", ""))
        hands.write("#code", early_code(app))
        hands.enter()
        hands.seen("Your backup codes")
        hands.to("a[href$='/account/security']")
        hands.enter()
        hands.seen("Signing in")
        hands.to("a[href$='/account/sessions']")
        hands.enter()
        hands.to("button[value=all]")
        hands.enter()
        hands.seen("You are signed out")
        hands.page.goto(f"{people.origin}/auth/account")
        hands.write("#email", email)
        hands.write("#password", PASSWORD)
        hands.enter()
        hands.seen("Confirm that it is you")
        hands.write("#code", "000000")
        hands.enter()
        hands.seen("Confirm that it is you")
        hands.write("#code", app.now())
        hands.enter()
        hands.seen("Profile")
        for section in ("sessions", "activity", "data", "security"):
            hands.to(f"a[href$='/account/{section}']")
            hands.enter()
            hands.seen(hands.page.locator("h1").inner_text())
            assert hands.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), section
    finally:
        context.close()
