"""Where a role demands a second factor: set up before one gets in, taken away by an administrator's link alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.pages_tour import authenticator, press
from tests.people_site import PASSWORD, PeopleSite, people_site
from tests.support import eventually

FACTOR_PAGE = "Set up a second step"


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleSite]:
    with people_site(factors={"require_mfa_roles": ["admin"]}) as site:
        site.register("app")
        yield site


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(ignore_https_errors=True, locale="en")
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def sign_in(page: Page, email: str) -> None:
    page.fill("#email", email)
    page.fill("#password", PASSWORD)
    press(page, "form:has(#password) button")


def heading(page: Page) -> str:
    return page.locator("h1").inner_text()


def test_an_app_is_set_up_on_the_way_to_the_client(people: PeopleSite, page: Page) -> None:
    email = people.add(role="admin")
    page.goto(people.authorize("app"))
    sign_in(page, email)
    assert heading(page) == FACTOR_PAGE
    page.goto(f"{people.origin}/auth/account")
    assert heading(page) == "Sign in"
    page.goto(people.authorize("app"))
    sign_in(page, email)
    press(page, "a[href*=authenticator]")
    page.locator("details > summary").click()
    app = pyotp.TOTP(page.locator("p.code").inner_text().replace(" ", ""))
    page.fill("#code", "000000")
    press(page, "form:has(#code) button")
    expect(page.locator(".summary")).to_be_visible()
    page.fill("#code", app.at(time.time()))
    press(page, "form:has(#code) button")
    assert heading(page) == "Your backup codes"
    press(page, "main a.button")
    assert "id_token" in people.exchange("app", page.url)


def test_a_passkey_is_set_up_instead_and_an_administrators_link_takes_it_away(people: PeopleSite, page: Page) -> None:
    email = people.add(role="admin")
    authenticator(page, hasResidentKey=False)
    page.goto(f"{people.origin}/auth/sign-in")
    sign_in(page, email)
    press(page, "a[href*=passkey]")
    press(page, "form.passkey button")
    press(page, "main a.button")
    assert heading(page) == "Profile"
    page.goto(f"{people.origin}/auth/account/security")
    press(page, "form:has([value=remove_passkey]) button")
    expect(page.locator(".summary")).to_contain_text("must have a second factor")
    page.goto(f"{people.origin}/auth/lost-factor")
    assert heading(page) == "Lost your second factor?"
    with people.process.client("admin") as admin:
        assert admin.post(f"/users/{email}/link", json={"kind": "factor-reset"}).status_code == 200
    mail = eventually(lambda: people.mails(email), within=10)[-1]
    link = re.search(r"https://\S+/auth/factor-reset\?token=\S+", mail)
    assert link is not None
    page.goto(link[0])
    assert heading(page) == "Remove all second factors?"
    press(page, "main form button")
    expect(page.locator("[role=status]")).to_contain_text("Your second factors were removed")
    sign_in(page, email)
    assert heading(page) == FACTOR_PAGE
