"""Pages, cookies, logout, guessing (RFC 9700 section 4, OpenID Connect RP-Initiated Logout, NIST SP 800-63B-4)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from tests.people_browser import Browser, sign_in
from tests.probe.kit import CALLBACK, SIGNED_OUT, Idp, Key, decoded, source, unsigned

PAGES = (
    "/auth/sign-in",
    "/auth/device",
    "/auth/forgot",
    "/auth/signed-out",
    "/auth/account",
    "/auth/sign-out",
    "/auth/reset?token=x",
    "/auth/invitation?token=x",
)


def page(idp: Idp, path: str) -> httpx.Response:
    return idp.ask("GET", path, headers={"accept": "text/html"})


@pytest.mark.parametrize("path", PAGES)
def test_a_page_cannot_be_framed_sniffed_or_scripted(idp: Idp, path: str) -> None:
    answer = page(idp, path)
    assert answer.status_code < 500
    if answer.is_redirect:
        assert answer.headers["location"].removeprefix(idp.bank.url).startswith("/auth/")
        return
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin", "strict-origin", "origin")
    assert "no-store" in answer.headers["cache-control"]
    assert "text/html" in answer.headers["content-type"]
    assert "utf-8" in answer.headers["content-type"].lower()
    assert "onclick=" not in answer.text
    assert "style=" not in answer.text
    assert "https://" not in answer.text.replace(idp.bank.url, "").replace("https://www.w3.org", "")  # no foreign asset


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/auth/../../evil",
        "http:evil.example",
        "/auth/account\r\nSet-Cookie: x=y",
        "\t//evil.example",
        "https:/evil.example",
        "/%09/evil.example",
        "/auth/account@evil.example",
    ],
)
def test_no_open_redirect_after_sign_in(idp: Idp, next_: str) -> None:
    answer = page(idp, "/auth/sign-in?" + urlencode({"next": next_}))
    assert answer.status_code < 500
    with idp.http() as http:
        browser = Browser(http)
        at = browser.open(f"{idp.bank.url}/auth/sign-in?{urlencode({'next': next_})}")
        if not isinstance(at, str) and at.status_code == 200 and "password" in at.text:
            at = browser.submit({"email": idp.person["email"], "password": idp.person["password"]})
        assert not isinstance(at, str), at
        assert "evil.example" not in urlsplit(browser.url).netloc


@pytest.mark.parametrize(
    "text",
    ['"><script>alert(1)</script>', "<img src=x onerror=alert(1)>", "{{7*7}}", "${7*7}", "' onfocus=alert(1) x='"],
)
@pytest.mark.parametrize(
    "path",
    [
        "/auth/sign-in?login_hint=",
        "/auth/sign-in?interaction=",
        "/auth/sign-in?next=",
        "/auth/device?user_code=",
        "/auth/reset?token=",
        "/auth/invitation?token=",
        "/auth/sign-out?logout=",
        "/auth/authorize?client_id=",
        "/auth/",
        "/auth/sign-in?lang=",
    ],
)
def test_what_is_shown_is_escaped(idp: Idp, path: str, text: str) -> None:
    from urllib.parse import quote

    answer = page(idp, path + quote(text, safe=""))
    assert answer.status_code < 500
    if "text/html" in answer.headers.get("content-type", ""):
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "' onfocus=alert" not in answer.text
        assert ">49<" not in answer.text


def test_cookies_are_host_only_secure_and_out_of_scripts_reach(idp: Idp) -> None:
    with idp.http() as http:
        browser = Browser(http)
        sign_in(browser, idp.request_url(), idp.person["email"], idp.person["password"])
        set_ = [line for name, line in _history(browser) if name == "set-cookie"]
        cookies = {cookie.name for cookie in http.cookies.jar}
        assert any(name.startswith("__Host-") for name in cookies)
        assert all(name.startswith("__Host-") for name in cookies), cookies
        for line in set_:
            low = line.lower()
            assert "secure" in low
            assert "httponly" in low
            assert "samesite" in low
            assert "domain=" not in low


def _history(browser: Browser) -> list[tuple[str, str]]:
    return [pair for answer in browser.seen for pair in answer.headers.multi_items()]


def test_the_session_gets_a_new_id_when_somebody_signs_in(idp: Idp) -> None:
    """Fixation: a cookie that an attacker planted before is worth nothing afterwards."""
    with idp.http() as http:
        browser = Browser(http)
        browser.open(idp.request_url())
        before = {cookie.name: cookie.value for cookie in http.cookies.jar}
        http.cookies.set("__Host-rempart-session", "planted-by-an-attacker", domain="localhost", path="/")
        at = browser.submit({"email": idp.person["email"], "password": idp.person["password"]})
        assert isinstance(at, str), at.text[:500]
        after = {cookie.name: cookie.value for cookie in http.cookies.jar if cookie.value != "planted-by-an-attacker"}
        assert after.get("__Host-rempart-session")
        assert after["__Host-rempart-session"] not in before.values()
    with idp.http() as http:
        planted = {"cookie": "__Host-rempart-session=planted-by-an-attacker"}
        assert "login_required" in http.get(idp.request_url(prompt="none"), headers=planted).headers["location"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {},
    ],
)
def test_a_form_of_another_site_signs_nobody_in(idp: Idp, headers: dict[str, str]) -> None:
    """Without the page's own token and cookie: login CSRF."""
    form = {"email": idp.person["email"], "password": idp.person["password"]}
    answer = idp.ask("POST", "/auth/sign-in", data=form, headers=headers)
    assert answer.status_code in (303, 400, 403)
    assert "__Host-rempart-session" not in str(answer.headers.multi_items())


def test_a_form_of_the_page_itself_does_not_work_from_another_site(idp: Idp) -> None:
    with idp.http() as http:
        browser = Browser(http)
        browser.open(idp.request_url())
        form = browser.form_with("password")
        data = {**form.fields, "email": idp.person["email"], "password": idp.person["password"]}
        answer = http.post(
            browser.url, data=data, headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        )
        assert answer.status_code in (400, 403)


def test_somebody_elses_form_token_is_refused(idp: Idp) -> None:
    with idp.http() as mine, idp.http() as theirs:
        attacker, victim = Browser(mine), Browser(theirs)
        attacker.open(idp.request_url())
        victim.open(idp.request_url())
        form = attacker.form_with("password")
        data = {**form.fields, "email": idp.person["email"], "password": idp.person["password"]}
        answer = theirs.post(victim.url, data=data, headers={"origin": idp.bank.url})
        assert answer.status_code in (400, 403)


# -- logout ----------------------------------------------------------


def out(idp: Idp, browser: Browser, **parameters: str) -> httpx.Response | str:
    return browser.open(f"{idp.endpoint('end_session_endpoint')}?{urlencode(parameters)}")


@pytest.fixture
def signed_in(idp: Idp) -> Iterator[Browser]:
    with idp.http() as http:
        browser = Browser(http)
        sign_in(browser, idp.request_url(), idp.person["email"], idp.person["password"])
        yield browser


def still_in(idp: Idp, browser: Browser) -> bool:
    at = browser.open(idp.request_url(prompt="none"))
    return isinstance(at, str) and "code" in parse_qs(urlsplit(at).query)


def test_a_link_alone_signs_nobody_out(idp: Idp, signed_in: Browser) -> None:
    """Logout CSRF: an image on another site must not end a session without the person's word."""
    assert not isinstance(out(idp, signed_in), str)
    assert still_in(idp, signed_in)
    assert not isinstance(out(idp, signed_in, client_id="p-web", post_logout_redirect_uri=SIGNED_OUT), str)
    assert still_in(idp, signed_in)


HINTS = ("", "garbage", "a.b.c", unsigned({"alg": "none"}, {"iss": "x", "sub": "y", "aud": "p-web"}), "x" * 6000)


@pytest.mark.parametrize("hint", HINTS)
def test_a_forged_hint_signs_nobody_out_unasked(idp: Idp, signed_in: Browser, hint: str) -> None:
    at = out(idp, signed_in, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT)
    assert not isinstance(at, str)
    assert at.status_code in (200, 400)
    assert still_in(idp, signed_in)


def test_a_hint_signed_by_a_stranger_counts_for_nothing(idp: Idp, signed_in: Browser) -> None:
    header, claims = decoded(idp.tokens()["id_token"])
    forged = Key().sign({**header, "alg": "ES256"}, claims)
    assert not isinstance(out(idp, signed_in, id_token_hint=forged, post_logout_redirect_uri=SIGNED_OUT), str)
    assert still_in(idp, signed_in)


@pytest.mark.parametrize(
    "uri",
    ["https://evil.example/", SIGNED_OUT + "/x", CALLBACK, SIGNED_OUT + "#x", "javascript:alert(1)", "//evil.example"],
)
def test_after_sign_out_nobody_is_sent_where_the_client_has_no_page(idp: Idp, uri: str) -> None:
    with idp.http() as http:
        browser = Browser(http)
        sign_in(browser, idp.request_url(), idp.person["email"], idp.person["password"])
        at = out(idp, browser, client_id="p-web", post_logout_redirect_uri=uri)
        assert not isinstance(at, str), at
        assert at.status_code in (200, 400)
        assert "javascript:alert" not in at.text


# -- guessing ----------------------------------------------------------


def login(idp: Idp, email: str, password: str, where: str = "") -> httpx.Response:
    return idp.ask("POST", "/login", json={"email": email, "password": password}, where=where)


def test_a_stranger_cannot_lock_the_owner_out(idp: Idp) -> None:
    """From many addresses at once, each within its own limit; the owner's known device gets in meanwhile."""
    person = idp.bank.account("finance")
    device = login(idp, person["email"], person["password"], where="127.200.0.1").json()["device"]
    for number in range(60):
        login(idp, person["email"], f"a wrong guess {number}", where=f"127.201.{number}.1")
    body = {"email": person["email"], "password": person["password"], "device": device}
    assert idp.ask("POST", "/login", json=body, where="127.200.0.9").status_code == 200
    assert login(idp, person["email"], person["password"], where="127.200.0.1").status_code == 200


def test_throttled_accounts_answer_alike_whether_or_not_they_exist(idp: Idp) -> None:
    person = idp.bank.account("devops")
    took: dict[str, list[float]] = {person["email"]: [], "nobody-at-all@bank.example": []}
    said: dict[str, list[tuple[int, str]]] = {email: [] for email in took}
    for round_ in range(25):
        for email in took:
            with idp.http(f"127.{210 + (round_ % 2)}.{round_}.{1 if '@' in email else 2}") as http:
                http.get("/auth/jwks.json")
                began = time.perf_counter()
                answer = http.post("/login", json={"email": email, "password": f"guess {round_}"})
                took[email].append(time.perf_counter() - began)
                said[email].append((answer.status_code, answer.json()["code"]))
    known, unknown = said.values()
    assert known == unknown
    for part in (slice(0, 5), slice(12, None)):
        a, b = (statistics.median(times[part]) for times in took.values())
        assert max(a, b) < 2 * min(a, b) + 0.01, (part, a, b)


def test_one_address_is_limited_whatever_it_guesses_at(idp: Idp) -> None:
    where = source()
    answers = [
        login(idp, f"person{number}@bank.example", "Summer2026!!", where=where).status_code for number in range(120)
    ]
    assert 429 in answers


def test_the_sign_in_page_answers_alike_whether_or_not_the_account_exists(idp: Idp) -> None:
    texts = []
    for email in (idp.bank.account("user", 1)["email"], "nobody-here@bank.example"):
        with idp.http() as http:
            browser = Browser(http)
            browser.open(idp.request_url(state="s", nonce="n"))
            at = browser.submit({"email": email, "password": "certainly not it"})
            assert not isinstance(at, str)
            texts.append((at.status_code, at.text.count("<"), email in at.text))
    assert texts[0][:2] == texts[1][:2]


def test_asking_for_a_reset_answers_alike(idp: Idp) -> None:
    seen = []
    for email in (idp.bank.account("user", 1)["email"], "nobody-here@bank.example"):
        with idp.http() as http:
            browser = Browser(http)
            at = browser.open(f"{idp.bank.url}/auth/forgot")
            assert not isinstance(at, str)
            at = browser.submit({"email": email})
            assert not isinstance(at, str)
            seen.append((at.status_code, len(at.text.replace(email, ""))))
    assert seen[0][0] == seen[1][0]
    assert abs(seen[0][1] - seen[1][1]) < 120
