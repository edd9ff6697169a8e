"""Pages without script, on rooms in memory: each goes where it says, and what it shows is safe to show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pages_browser import SAME, Html, Visitor, visiting
from tests.pages_fakes import BACKUP, CODE, CODES, EMAIL, PASSWORD, Site

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import RempartError, Throttled, Unavailable
from rempart.people.pages.model import Connected, Next, Passkey

H = "handle-of-a-request"


def test_signing_in_leads_back_to_where_one_came_from() -> None:
    async def scenario(visitor: Visitor) -> None:
        away = await visitor.get("/auth/account/sessions")
        assert (away.status_code, away.headers["location"]) == (303, "/auth/sign-in?next=%2Fauth%2Faccount%2Fsessions")
        await visitor.get(away.headers["location"])
        done = await visitor.post(away.headers["location"], email=EMAIL, password=PASSWORD)
        assert (done.status_code, done.headers["location"]) == (303, "/auth/account/sessions")
        assert (await visitor.get("/auth/account/sessions")).status_code == 200

    visiting(scenario)


@pytest.mark.parametrize(
    "next",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "/auth/account/../../x", "/auth/token",
        "/auth/account?x=1", "/auth/account\n", "javascript:alert(1)", "/auth/device?user_code=AB&x=y", "",
    ],
)  # fmt: skip
def test_it_leads_nowhere_else(next: str) -> None:
    async def scenario(visitor: Visitor) -> None:
        page = visitor.client.build_request("GET", "/auth/sign-in", params={"next": next}).url.raw_path.decode()
        await visitor.get(page)
        assert (await visitor.post(page, email=EMAIL, password=PASSWORD)).headers["location"] == "/auth/account"
        assert (await visitor.get(page)).headers["location"] == "/auth/account"

    visiting(scenario)


def test_cookies_are_for_this_host_alone_and_out_of_reach_of_script() -> None:
    async def scenario(visitor: Visitor) -> None:
        answer = await visitor.sign_in()
        cookies = answer.headers.get_list("set-cookie")
        assert {cookie.partition("=")[0] for cookie in cookies} == {"__Host-rempart-session", "__Host-rempart-device"}
        for cookie in cookies:
            parts = cookie.lower().split("; ")
            assert {"path=/", "secure", "httponly"} <= set(parts)
            assert {"samesite=lax", "samesite=strict"} & set(parts)
            assert not any(part.startswith("domain") for part in parts)
        session = next(cookie for cookie in cookies if "session" in cookie)
        assert "max-age" not in session.lower()

    visiting(scenario)


def test_wrong_passwords_are_told_without_the_rooms_words_and_keep_the_address() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.get("/auth/sign-in")
        answer = await visitor.post("/auth/sign-in", email="x@y.example", password="nope")
        page = Html(answer.text)
        assert answer.status_code == 401
        assert "The e-mail address or the password is wrong." in page.text
        assert "<b>" not in page.text
        assert [each["value"] for each in page.all("input") if each.get("name") == "email"] == ["x@y.example"]
        assert [each["value"] for each in page.all("input") if each.get("name") == "password"] == [""]
        assert page.text.lstrip().startswith("Error:")

    visiting(scenario)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Throttled("login_throttled", "x", retry_after=7), 429), (Unavailable("store_unavailable", "x"), 503)],
)
def test_what_is_refused_is_a_page_with_the_same_status(error: RempartError, status: int) -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.get("/auth/sign-in")
        visitor.site.failing = error
        answer = await visitor.post("/auth/sign-in", email=EMAIL, password=PASSWORD)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert "x</" not in answer.text

    visiting(scenario)


def test_every_page_has_its_headers() -> None:
    async def scenario(visitor: Visitor) -> None:
        for path in ("/auth/sign-in", "/auth/sign-in?interaction=no-such-handle", "/auth/account", "/auth/device"):
            headers = (await visitor.get(path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert visitor.shown.status_code == 303 or "script-src 'self'" in headers["content-security-policy"]

    visiting(scenario)


def test_a_factor_is_asked_for_on_a_page_of_its_own() -> None:
    async def scenario(visitor: Visitor) -> None:
        answer = await visitor.sign_in("?next=/auth/account/data")
        factor = answer.headers["location"]
        assert factor == "/auth/sign-in/factor?next=%2Fauth%2Faccount%2Fdata"
        assert (await visitor.get("/auth/account")).status_code == 303
        await visitor.get(factor)
        wrong = await visitor.post(factor, code="000000")
        assert wrong.status_code == 401
        done = await visitor.post(factor, code=CODE)
        assert (done.status_code, done.headers["location"]) == (303, "/auth/account/data")
        assert (await visitor.get("/auth/account")).status_code == 200
        again = await visitor.get(factor)
        assert again.headers["location"].startswith("/auth/sign-in?")

    visiting(scenario, Site(totp=True))


def test_a_backup_code_goes_through_the_same_door() -> None:
    async def scenario(visitor: Visitor) -> None:
        factor = (await visitor.sign_in()).headers["location"]
        await visitor.get(factor)
        assert (await visitor.post(factor, code=BACKUP)).headers["location"] == "/auth/account"

    visiting(scenario, Site(totp=True))


def test_the_factor_page_without_a_first_step_begins_again() -> None:
    async def scenario(visitor: Visitor) -> None:
        answer = await visitor.get("/auth/sign-in/factor?interaction=" + H)
        assert answer.headers["location"] == f"/auth/sign-in?interaction={H}&again=1&notice=expired"

    visiting(scenario)


def test_who_must_have_a_factor_sets_one_up_before_they_get_in() -> None:
    async def scenario(visitor: Visitor) -> None:
        factor = (await visitor.sign_in()).headers["location"]
        set_up = (await visitor.get(factor)).headers["location"]
        assert set_up.startswith("/auth/sign-in/set-up?")
        assert "Set up a second step" in (await visitor.get(set_up)).text
        page = set_up.replace("set-up?", "set-up/authenticator?")
        await visitor.get(page)
        assert (await visitor.post(page, code="000000")).status_code == 401
        visitor.site.demanded = False
        done = await visitor.post(page, code=CODE)
        assert all(code in done.text for code in CODES)
        assert (await visitor.get("/auth/account")).status_code == 200

    visiting(scenario, Site(demanded=True))


def test_consent_is_asked_and_both_answers_reach_the_client() -> None:
    async def scenario(visitor: Visitor) -> None:
        assert (await visitor.sign_in(f"?interaction={H}")).headers["location"] == f"/auth/sign-in?interaction={H}"
        page = await visitor.get(f"/auth/sign-in?interaction={H}")
        assert "form-action 'self' https://shop.example;" in page.headers["content-security-policy"]
        no = await visitor.post(f"/auth/consent?interaction={H}", decision="refuse")
        yes = await visitor.post(f"/auth/consent?interaction={H}", decision="approve")
        odd = await visitor.post(f"/auth/consent?interaction={H}")
        callback = "https://shop.example/callback?"
        assert [answer.headers["location"] for answer in (no, yes, odd)] == [
            callback + "error=access_denied",
            callback + "code=abc",
            callback + "error=access_denied",
        ]

    visiting(scenario)


def test_a_client_at_an_ipv6_address_is_reached_over_a_page() -> None:
    site = Site()
    site.client = replace(site.client, redirect_source="http://[::1]:4000")

    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in(f"?interaction={H}")
        await visitor.get(f"/auth/sign-in?interaction={H}")
        done = await visitor.post(f"/auth/consent?interaction={H}", decision="approve")
        assert [each.get("href") for each in Html(done.text).all("a")][1:] == ["http://[::1]:4000/callback?code=abc"]

    visiting(scenario, site)


def test_nobody_consents_without_being_signed_in() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.get(f"/auth/sign-in?interaction={H}")
        answer = await visitor.post(f"/auth/consent?interaction={H}", decision="approve")
        assert answer.headers["location"] == f"/auth/sign-in?interaction={H}"
        assert visitor.site.answers == []

    visiting(scenario)


def test_going_back_without_signing_in() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.get(f"/auth/sign-in?interaction={H}")
        answer = await visitor.post(f"/auth/sign-in?interaction={H}", refuse="1")
        assert answer.headers["location"] == "https://shop.example/callback?error=access_denied"

    visiting(scenario)


def test_a_step_up_goes_to_the_factor_and_is_refused_without_one() -> None:
    site = Site()
    site.client = replace(site.client, next=Next.READY, acr="mfa")

    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        assert "asks for a second step" in (await visitor.get(f"/auth/sign-in?interaction={H}")).text
        answer = await visitor.post(f"/auth/sign-in?interaction={H}", refuse="1")
        assert answer.headers["location"].endswith("error=unmet_authentication_requirements")
        site.totp = True
        factor = (await visitor.get(f"/auth/sign-in?interaction={H}")).headers["location"]
        assert factor == f"/auth/sign-in/factor?interaction={H}"
        await visitor.get(factor)
        await visitor.post(factor, code=CODE)
        assert (await visitor.get(f"/auth/sign-in?interaction={H}")).headers["location"].endswith("code=abc")

    visiting(scenario, site)


def test_a_choice_of_account() -> None:
    site = Site()
    site.client = replace(site.client, next=Next.SELECT_ACCOUNT)

    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        page = await visitor.get(f"/auth/sign-in?interaction={H}")
        assert EMAIL in page.text
        await visitor.get(f"/auth/sign-in?interaction={H}&other=1")
        assert [each["value"] for each in Html(visitor.shown.text).all("input") if each.get("name") == "email"] == [""]
        await visitor.post(f"/auth/sign-in?interaction={H}", choose="1")
        assert (await visitor.get(f"/auth/sign-in?interaction={H}")).headers["location"].endswith("code=abc")

    visiting(scenario, site)


def test_a_device_is_let_in_by_who_is_signed_in_and_compares_the_code() -> None:
    async def scenario(visitor: Visitor) -> None:
        page = "/auth/device?user_code=wdjb-mjht"
        away = (await visitor.get(page)).headers["location"]
        assert away == "/auth/sign-in?next=%2Fauth%2Fdevice%3Fuser_code%3DWDJB-MJHT"
        await visitor.get(away)
        back = await visitor.post(away, email=EMAIL, password=PASSWORD)
        shown = await visitor.get(back.headers["location"])
        assert "WDJB-MJHT" in shown.text
        done = await visitor.post(page, decision="approve")
        assert done.headers["location"] == "/auth/device/approved"
        assert visitor.site.devices == {"WDJB-MJHT": "approved"}
        assert (await visitor.get(page)).status_code == 404

    visiting(scenario)


@pytest.mark.parametrize(("code", "status"), [("xxxx", 404), ("guES-SING", 429), ("a" * 4000, 404), ("\x00", 404)])
def test_unknown_device_codes(code: str, status: int) -> None:
    async def scenario(visitor: Visitor) -> None:
        answer = await visitor.client.get("/auth/device", params={"user_code": code})
        assert answer.status_code == status

    visiting(scenario)


def test_links_are_used_by_a_form_and_not_by_looking() -> None:
    async def scenario(visitor: Visitor) -> None:
        page = "/auth/reset?token=good-reset"
        await visitor.get(page)
        assert EMAIL in (await visitor.get(page)).text
        long = "a new one that is long enough"
        assert (await visitor.post(page, password=long, repeated="another")).status_code == 400
        assert (await visitor.post(page, password="short", repeated="short")).status_code == 400
        done = await visitor.post(page, password=long, repeated=long)
        assert done.headers["location"] == "/auth/sign-in?notice=reset"
        assert (await visitor.get(page)).status_code == 404
        await visitor.get("/auth/forgot")
        answer = await visitor.post("/auth/forgot", email="who@ever.example")
        assert answer.headers["location"] == "/auth/forgot/sent"
        assert visitor.site.mails == [("reset", "who@ever.example")]

    visiting(scenario)


def test_signing_out_wants_a_form() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        await visitor.get("/auth/sign-out")
        assert len(visitor.site.sessions) == 1
        answer = await visitor.post("/auth/sign-out")
        assert answer.headers["location"] == "/auth/signed-out"
        assert visitor.site.sessions == {}
        assert "max-age=0" in answer.headers["set-cookie"].lower()

    visiting(scenario)


def test_ones_own_account() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        await visitor.get("/auth/account")
        assert (await visitor.post("/auth/account", name="\u200b")).status_code == 400
        assert (await visitor.post("/auth/account", name="Anna")).headers["location"] == "/auth/account?done=saved"
        assert 'value="Anna"' in (await visitor.get("/auth/account?done=saved")).text
        done = await visitor.post("/auth/account/sessions", place="ses_2")
        assert done.headers["location"] == "/auth/account/sessions?done=ended"
        visitor.site.connected = [Connected(client_id="shop", client_name="Shop", scopes=("openid",), since=1.0)]
        await visitor.get("/auth/account/applications")
        await visitor.post("/auth/account/applications", client_id="shop")
        assert visitor.site.connected == []
        await visitor.get("/auth/account/data")
        file = await visitor.post("/auth/account/data")
        assert file.json()["account"]["email"] == EMAIL
        assert file.headers["content-disposition"].startswith("attachment")
        await visitor.get("/auth/account/sessions")
        everywhere = await visitor.post("/auth/account/sessions", place="all")
        assert everywhere.headers["location"] == "/auth/signed-out"
        assert visitor.site.sessions == {}

    visiting(scenario)


def test_factors_of_ones_own() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        security = "/auth/account/security"
        await visitor.get("/auth/account/authenticator")
        codes = await visitor.post("/auth/account/authenticator", code=CODE)
        assert all(code in codes.text for code in CODES)
        await visitor.get(security)
        renewed = await visitor.post(security, do="backup_codes")
        assert CODES[0] in renewed.text
        await visitor.get(security)
        visitor.site.demanded = True
        assert (await visitor.post(security, do="remove_totp")).status_code == 409
        visitor.site.demanded = False
        gone = await visitor.post(security, do="remove_totp")
        assert gone.headers["location"] == security + "?done=totp_removed"
        await visitor.get("/auth/account")
        assert (await visitor.post(security, do="what")).status_code == 400
        await visitor.get("/auth/account/password")
        long = "a new one that is long enough"
        for fields, status in (
            ({"current": "no", "password": long, "repeated": long}, 401),
            ({"current": PASSWORD, "password": "short", "repeated": "short"}, 400),
            ({"current": PASSWORD, "password": long, "repeated": "x"}, 400),
            ({"current": PASSWORD, "password": long, "repeated": long}, 303),
        ):
            assert (await visitor.post("/auth/account/password", **fields)).status_code == status
        assert (await visitor.get(security)).status_code == 200

    visiting(scenario)


def test_changing_what_proves_one_wants_a_fresh_proof() -> None:
    clock = ManualClock()

    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        await visitor.get("/auth/account")
        clock.advance(600)
        again = "/auth/sign-in?next=%2Fauth%2Faccount%2Fsecurity&again=1"
        assert (await visitor.post("/auth/account/security", do="remove_totp")).headers["location"] == again
        for page in ("authenticator", "passkey", "data"):
            assert "again=1" in (await visitor.get(f"/auth/account/{page}")).headers["location"]
        shown = await visitor.get(again)
        assert shown.status_code == 200
        assert EMAIL in shown.text
        done = await visitor.post(again, email=EMAIL, password=PASSWORD)
        assert done.headers["location"] == "/auth/account/security"
        assert (await visitor.get("/auth/account/authenticator")).status_code == 200

    visiting(scenario, Site(clock=clock))


@pytest.mark.parametrize(
    "path",
    [
        "/auth/sign-in", "/auth/sign-in/factor", "/auth/sign-in/set-up/authenticator", "/auth/sign-in/set-up/passkey",
        f"/auth/consent?interaction={H}", "/auth/device?user_code=WDJB-MJHT", "/auth/sign-out", "/auth/forgot",
        "/auth/reset?token=good-reset", "/auth/invitation?token=good-invitation",
        "/auth/factor-reset?token=good-factor-reset", "/auth/account", "/auth/account/sessions",
        "/auth/account/applications", "/auth/account/data", "/auth/account/security", "/auth/account/authenticator",
        "/auth/account/passkey", "/auth/account/password",
    ],
)  # fmt: skip
def test_no_form_counts_without_its_token_or_from_elsewhere(path: str) -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.sign_in()
        await visitor.get("/auth/account")
        fields = {"email": EMAIL, "password": PASSWORD, "decision": "approve", "name": "Eve", "place": "all"}
        before = list(visitor.site.sessions)
        for headers, token in (
            (SAME, {"form_token": "x" * 43}),
            ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, {}),
            ({"origin": "https://evil.example"}, {}),
        ):
            answer = await visitor.post(path, headers, **fields, **token)
            assert answer.status_code == 403
            await visitor.get("/auth/account")
        assert list(visitor.site.sessions) == before
        assert (visitor.site.answers, visitor.site.mails, visitor.site.name) == ([], [], "Ann Example")

    visiting(scenario)


def test_a_form_of_before_signing_in_does_not_count_after() -> None:
    async def scenario(visitor: Visitor) -> None:
        await visitor.get("/auth/sign-in")
        stale = Html(visitor.shown.text).form_token
        await visitor.sign_in()
        answer = await visitor.post("/auth/account", name="Eve", form_token=stale)
        assert answer.status_code == 403

    visiting(scenario)


def test_the_language_of_the_browser_the_client_and_the_person() -> None:
    async def scenario(visitor: Visitor) -> None:
        assert "Sign in</h1>" in (await visitor.get("/auth/sign-in")).text
        french = await visitor.get("/auth/sign-in", **{"accept-language": "fr-FR,en;q=0.5"})
        assert '<html lang="fr">' in french.text
        assert "Se connecter</h1>" in french.text
        visitor.site.client = replace(visitor.site.client, locale="fr")
        assert '<html lang="fr">' in (await visitor.get(f"/auth/sign-in?interaction={H}")).text
        await visitor.get(f"/auth/sign-in?interaction={H}&lang=en")
        assert '<html lang="en">' in (await visitor.get(f"/auth/sign-in?interaction={H}")).text

    visiting(scenario)


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=60),
    st.sampled_from(
        ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' autofocus onfocus='x", "</title><b>",
         "{{7*7}}", "{client}", "\u202egpj.exe", "javascript:alert(1)", "&lt;b&gt;", "</textarea>", "<!--", "]]>"]
    ),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(HOSTILE, HOSTILE)
def test_whatever_others_are_called_it_stays_text(name: str, other: str) -> None:
    site = Site(name=name, totp=True, passkeys=[Passkey(id=other, name=name, added_at=0.0)])
    site.client = replace(
        site.client, client_name=name, scopes=(other,), redirect_host=other, redirect_source=other, login_hint=name
    )
    site.connected = [Connected(client_id=other, client_name=name, scopes=(other,), since=0.0)]

    async def scenario(visitor: Visitor) -> None:
        pages = [await visitor.get(f"/auth/sign-in?interaction={H}")]
        pages.append(await visitor.post(f"/auth/sign-in?interaction={H}", email=other, password=name))
        factor = (await visitor.post(f"/auth/sign-in?interaction={H}", email=EMAIL, password=PASSWORD)).headers
        await visitor.get(factor["location"])
        await visitor.post(factor["location"], code=CODE)
        pages.append(await visitor.get(f"/auth/sign-in?interaction={H}"))
        for path in ("", "/security", "/applications"):
            pages.append(await visitor.get("/auth/account" + path))
        for query in ({"user_code": name}, {"user_code": other, "lang": name, "done": other, "next": name}):
            pages.append(await visitor.client.get("/auth/device", params=query))
        for page in pages:
            _safe(page.text)
            assert page.headers["content-security-policy"].count(";") == 6

    visiting(scenario, site)


_TAGS = (
    *("html", "head", "meta", "title", "link", "script", "noscript", "body", "header", "main", "footer", "nav"),
    *("a", "p", "img", "bdi", "div", "section", "span", "strong", "code", "time", "details", "summary"),
    *("h1", "h2", "h3", "ul", "ol", "li", "dl", "dt", "dd", "form", "label", "input", "button"),
)


def _safe(text: str) -> None:
    """Only elements and attributes of ours, and no script but the file of that name."""
    page = Html(text)
    for tag, attributes in page.elements:
        assert tag in _TAGS
        assert not any(name.startswith("on") or name in ("style", "srcdoc") for name in attributes), attributes
        assert not str(attributes.get("href") or "").strip().lower().startswith(("javascript:", "data:", "//"))
        assert tag != "script" or str(attributes["src"]).startswith("/auth/static/passkeys.")
    assert sum(1 for _ in page.all("form")) == text.count("<form ")
