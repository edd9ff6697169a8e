"""People, the real process, in Chromium: from a client's first redirect to its tokens, and a person's own account."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.pages_tour import HARMLESS, authenticator, press
from tests.people_site import PASSWORD, PeopleSite, early_code, people_site
from tests.support import eventually

Open = Callable[..., Page]
SIGN_IN = "form:has(#password) button"


@pytest.fixture(scope="module")
def people() -> Iterator[PeopleSite]:
    with people_site() as site:
        site.register("shop", consent=True)
        site.register("app", name="Our App")
        yield site


@pytest.fixture
def browse(chromium: Browser) -> Iterator[Open]:
    """New browsers, none of which may complain: of a policy violation, of a script, of a 5xx."""
    complaints: list[str] = []
    contexts = []

    def complain(what: str, wrong: bool = True) -> None:
        if wrong:
            complaints.append(what)

    def opened(**more: Any) -> Page:
        context = chromium.new_context(**{"ignore_https_errors": True, "locale": "en", **more})
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complain(message.text, HARMLESS not in message.text))
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("response", lambda answer: complain(f"{answer.status} {answer.url}", answer.status >= 500))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    page.fill("#email", email)
    page.fill("#password", password)
    press(page, SIGN_IN)


def heading(page: Page) -> str:
    return page.locator("h1").inner_text()


def with_app(page: Page, people: PeopleSite, email: str) -> tuple[pyotp.TOTP, list[str]]:
    """Sign in, set up an authenticator app, read the backup codes."""
    page.goto(f"{people.origin}/auth/account/authenticator")
    sign_in(page, email)
    page.locator("details > summary").click()
    secret = page.locator("p.code").inner_text().replace(" ", "")
    app = pyotp.TOTP(secret)
    page.fill("#code", early_code(app))
    press(page, "form:has(#code) button")
    assert heading(page) == "Your backup codes"
    return app, page.locator(".codes code").all_inner_texts()


def test_from_a_clients_redirect_to_its_tokens(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    page.goto(people.authorize("shop"))
    assert page.locator(".lead").inner_text() == "to go on to Example Shop"
    sign_in(page, email, "something else entirely")
    expect(page.locator(".summary")).to_be_focused()
    assert page.input_value("#email") == email
    sign_in(page, email)
    assert heading(page) == "Let Example Shop in?"
    press(page, "button[value=approve]")
    assert page.url.startswith(f"{people.client}/callback?")
    tokens = people.exchange("shop", page.url)
    claims = json.loads(base64.urlsafe_b64decode(tokens["id_token"].split(".")[1] + "=="))
    assert (claims["nonce"], claims["amr"]) == ("the-nonce", ["pwd"])
    # Signed in and consented: nobody is asked again.
    page.goto(people.authorize("shop"))
    assert page.url.startswith(f"{people.client}/callback?")
    page.goto(f"{people.origin}/auth/account/applications")
    expect(page.locator("main")).to_contain_text("Example Shop")
    press(page, "button[name=client_id]")
    page.goto(people.authorize("shop"))
    press(page, "button[value=refuse]")
    assert parse_qs(urlsplit(page.url).query)["error"] == ["access_denied"]


def test_whoever_does_not_want_to_sign_in_goes_back(people: PeopleSite, browse: Open) -> None:
    page = browse()
    page.goto(people.authorize("app"))
    press(page, "button[name=refuse]")
    assert parse_qs(urlsplit(page.url).query)["error"] == ["access_denied"]


def test_a_native_application_at_an_ipv6_address_gets_its_answer(people: PeopleSite, browse: Open) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        callback = f"http://[::1]:{listening.getsockname()[1]}/callback"
        people.register("native", redirect_uris=[callback], post_logout_redirect_uris=[])
        page = browse()
        page.goto(people.authorize("native", redirect_uri=callback))
        page.fill("#email", people.add())
        page.fill("#password", PASSWORD)
        page.locator(SIGN_IN).click()
        listening.settimeout(10)
        with listening.accept()[0] as connection:
            assert b"code=" in connection.recv(4096).partition(b"\r\n")[0]
            connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")


def test_an_answer_by_form_post_reaches_the_client(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    page.goto(people.authorize("app", response_mode="form_post"))
    sign_in(page, email)
    page.wait_for_url(f"{people.client}/callback")
    assert heading(page) == "Example Shop"


def test_a_factor_is_set_up_asked_for_and_replaced_by_a_backup_code(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    app, codes = with_app(page, people, email)
    assert len(codes) == 10
    other = browse()
    other.goto(f"{people.origin}/auth/account")
    sign_in(other, email)
    assert heading(other) == "Confirm that it is you"
    other.fill("#code", "000000")
    press(other, "form:has(#code) button")
    expect(other.locator("#code")).to_have_attribute("aria-invalid", "true")
    other.fill("#code", app.now())
    press(other, "form:has(#code) button")
    assert heading(other) == "Profile"
    third = browse()
    third.goto(people.authorize("app"))
    sign_in(third, email)
    third.locator("details > summary").click()
    third.fill("#backup", codes[3])
    press(third, "form:has(#backup) button")
    tokens = people.exchange("app", third.url)
    claims = json.loads(base64.urlsafe_b64decode(tokens["id_token"].split(".")[1] + "=="))
    assert set(claims["amr"]) == {"pwd", "otp", "mfa"}
    page.goto(f"{people.origin}/auth/account/security")
    expect(page.locator("main")).to_contain_text("Codes left: 9")


def test_a_client_that_demands_more_sends_its_person_to_the_factor(people: PeopleSite, browse: Open) -> None:
    plain, page = people.add(), browse()
    page.goto(people.authorize("app", acr_values="mfa"))
    sign_in(page, plain)
    assert heading(page) == "A second factor is needed"
    press(page, "button[name=refuse]")
    assert parse_qs(urlsplit(page.url).query)["error"] == ["unmet_authentication_requirements"]


def test_passkeys_are_added_sign_in_alone_serve_as_second_step_and_go(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    authenticator(page)
    page.goto(f"{people.origin}/auth/account/passkey")
    sign_in(page, email)
    page.fill("#name", "My <b>phone</b>")
    press(page, "form.passkey button")
    assert heading(page) == "Your backup codes"
    page.goto(f"{people.origin}/auth/account/security")
    expect(page.locator("h3")).to_have_text("My <b>phone</b>")
    page.context.clear_cookies()
    # The virtual authenticator takes up the offer in the name field's list at once: nobody types anything.
    page.goto(f"{people.origin}/auth/sign-in?next=/auth/account")
    page.wait_for_url("**/auth/account")
    page.goto(f"{people.origin}/auth/account/security")
    page.locator("details > summary").first.click()
    page.fill("[id^=name-]", "Telephone")
    press(page, "form.inline button")
    expect(page.locator("h3")).to_have_text("Telephone")
    press(page, "form:has([value=remove_passkey]) button")
    assert page.locator("h3").count() == 0


def test_a_passkey_as_the_second_step(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    authenticator(page, hasResidentKey=False)
    page.goto(f"{people.origin}/auth/account/passkey")
    sign_in(page, email)
    press(page, "form.passkey button")
    page.context.clear_cookies()
    page.goto(people.authorize("app", acr_values="phr"))
    sign_in(page, email)
    assert heading(page) == "Confirm that it is you"
    press(page, "form.passkey button")
    claims = people.exchange("app", page.url)["id_token"].split(".")[1] + "=="
    assert json.loads(base64.urlsafe_b64decode(claims))["acr"] == "phr"


def test_a_device_is_connected(people: PeopleSite, browse: Open) -> None:
    people.register("tv", name="Example TV", redirect_uris=[], grants=["urn:ietf:params:oauth:grant-type:device_code"],
                    post_logout_redirect_uris=[])  # fmt: skip
    with people.process.client(**{"x-spiffe-id": "spiffe://bank.example/rempart/gateway"}) as api:
        begun = api.post("/auth/device_authorization", data={"client_id": "tv", "scope": "openid profile"}).json()
    email, page = people.add(), browse()
    page.goto(f"{people.origin}/auth/device")
    page.fill("#user_code", begun["user_code"].lower().replace("-", " "))
    press(page, "main button")
    sign_in(page, email)
    assert heading(page) == "Let Example TV in?"
    assert page.locator("p.code").inner_text() == begun["user_code"]
    press(page, "button[value=approve]")
    assert heading(page) == "Your device is connected"
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "tv"}
    assert "id_token" in people.token(device_code=begun["device_code"], **asked).json()
    page.goto(f"{people.origin}/auth/device?user_code={begun['user_code']}")
    expect(page.locator(".summary")).to_contain_text("unknown, used or too old")


def test_ones_own_account(people: PeopleSite, browse: Open) -> None:
    email, page, elsewhere = people.add(), browse(), browse()
    for each in (page, elsewhere):
        each.goto(f"{people.origin}/auth/account")
        sign_in(each, email)
    page.fill("#name", "Anna Example")
    press(page, "main form button")
    expect(page.locator("[role=status]")).to_have_text("Saved.")
    assert page.input_value("#name") == "Anna Example"
    page.goto(f"{people.origin}/auth/account/sessions")
    assert page.locator("main li").count() == 2
    press(page, "main li form button")
    assert page.locator("main li").count() == 1
    elsewhere.goto(f"{people.origin}/auth/account")
    assert heading(elsewhere) == "Sign in"
    sign_in(elsewhere, email)
    page.goto(f"{people.origin}/auth/account/activity")
    expect(page.locator("main")).to_contain_text("Signed in")
    expect(page.locator("main")).to_contain_text("203.0.113.7")
    page.goto(f"{people.origin}/auth/account/data")
    with page.expect_download() as download:
        page.locator("main form button").click()
    document = json.loads(download.value.path().read_text())
    assert (document["account"]["display_name"], len(document["signed_in"])) == ("Anna Example", 2)
    assert not {"password_hash", "totp", "token"} & set(re.findall(r'"(\w+)":', json.dumps(document)))
    page.goto(f"{people.origin}/auth/account/password")
    fresh = "an even quieter lake of stone 43"
    for field, value in (("#current", PASSWORD), ("#password", fresh), ("#repeated", fresh)):
        page.fill(field, value)
    press(page, "main form button")
    expect(page.locator("[role=status]")).to_have_text("Your password was changed.")
    elsewhere.goto(f"{people.origin}/auth/account")
    assert heading(elsewhere) == "Sign in"
    sign_in(elsewhere, email, fresh)
    assert heading(elsewhere) == "Profile"
    page.goto(f"{people.origin}/auth/account/sessions")
    press(page, "button[value=all]")
    assert heading(page) == "You are signed out"
    elsewhere.goto(f"{people.origin}/auth/account")
    assert heading(elsewhere) == "Sign in"


def test_a_forgotten_password_comes_back_by_mail(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse(locale="fr")
    page.goto(f"{people.origin}/auth/sign-in")
    press(page, "a[href='/auth/forgot']")
    page.fill("#email", email)
    press(page, "main form button")
    assert heading(page) == "Consultez vos e-mails"
    mail = eventually(lambda: people.mails(email), within=10)[-1]
    link = re.search(r"https://\S+/auth/reset\?token=\S+", mail)
    assert link is not None
    page.goto(link[0])
    fresh = "an even quieter lake of stone 43"
    page.fill("#password", fresh)
    page.fill("#repeated", fresh)
    press(page, "main form button")
    expect(page.locator("[role=status]")).to_contain_text("Votre mot de passe a été changé")
    sign_in(page, email, fresh)
    page.go_back()
    page.goto(f"{people.origin}/auth/account")
    assert heading(page) == "Profil"


def test_a_client_signs_its_person_out_after_asking(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    page.goto(people.authorize("app"))
    sign_in(page, email)
    page.goto(f"{people.origin}/auth/logout?client_id=app&post_logout_redirect_uri={people.client}/bye")
    assert heading(page) == "Sign out?"
    press(page, "main form button")
    assert page.url == f"{people.client}/bye"
    page.goto(f"{people.origin}/auth/account")
    assert heading(page) == "Sign in"


def test_without_script_everything_but_passkeys_works(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse(java_script_enabled=False)
    app, _ = with_app(page, people, email)
    assert app.secret
    page.goto(people.authorize("shop"))
    press(page, "button[value=approve]")
    assert "id_token" in people.exchange("shop", page.url)
    page.goto(f"{people.origin}/auth/account/passkey")
    expect(page.locator("noscript p")).to_contain_text("JavaScript")
    page.goto(f"{people.origin}/auth/sign-out")
    press(page, "main form button")
    page.goto(f"{people.origin}/auth/sign-in")
    assert page.locator("form.passkey").is_hidden()


def test_by_keyboard_alone(people: PeopleSite, browse: Open) -> None:
    email, page = people.add(), browse()
    page.goto(people.authorize("shop"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for key in ("Enter", "Tab"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.id") == "email"
    page.keyboard.type(email)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Let Example Shop in?")
    while page.evaluate("document.activeElement.value") != "approve":
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    with page.expect_navigation(url=f"{people.client}/**"):
        page.keyboard.press("Enter")
    assert "code=" in page.url


def test_the_clients_language_the_persons_own_and_a_switch(people: PeopleSite, browse: Open) -> None:
    page = browse()
    page.goto(people.authorize("app", ui_locales="fr"))
    assert heading(page) == "Se connecter"
    press(page, "a[hreflang=en]")
    assert heading(page) == "Sign in"
    assert "interaction=" in page.url
    page.goto(people.authorize("app", ui_locales="fr"))
    assert heading(page) == "Sign in"
