"""Random forms, queries, cookies and headers made of what the identity provider knows: never a 5xx."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.people_browser import Browser, sign_in
from tests.probe.kit import ACCESS_TOKEN, ASSERTION, CALLBACK, DEVICE, EXCHANGE, SECRET, Idp

PATHS = (
    "/auth/token", "/auth/authorize", "/auth/par", "/auth/introspect", "/auth/revoke", "/auth/userinfo", "/auth/logout",
    "/auth/device_authorization", "/auth/device", "/auth/sign-in", "/auth/sign-in/factor", "/auth/sign-in/passkey",
    "/auth/consent", "/auth/forgot", "/auth/reset", "/auth/invitation", "/auth/sign-out", "/auth/account",
    "/auth/account/security", "/auth/account/sessions", "/auth/account/applications", "/auth/account/data",
    "/auth/account/activity", "/auth/factors", "/auth/factors/totp", "/auth/factors/totp/confirm", "/auth/password",
    "/auth/factors/passkeys", "/auth/factors/passkeys/options", "/auth/sessions", "/auth/admin/users", "/login",
    "/auth/scim/v2/Users", "/auth/scim/v2/Groups", "/auth/register", "/auth/workload",
)  # fmt: skip
NAMES = (
    "grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret", "client_assertion",
    "client_assertion_type", "refresh_token", "scope", "subject_token", "subject_token_type", "actor_token", "audience",
    "resource", "device_code", "user_code", "token", "token_type_hint", "response_type", "response_mode", "state",
    "nonce", "prompt", "max_age", "acr_values", "claims", "ui_locales", "id_token_hint", "login_hint", "request",
    "request_uri", "code_challenge", "code_challenge_method", "dpop_jkt", "display", "post_logout_redirect_uri",
    "email", "password", "otp", "interaction", "next", "lang", "csrf", "action", "filter", "startIndex", "count",
    "username", "assertion", "requested_token_type", "logout", "credential", "remember",
)  # fmt: skip
WORDS = (
    "", "x", "code", "openid", "authorization_code", "refresh_token", "client_credentials", "password", DEVICE,
    EXCHANGE, ASSERTION, ACCESS_TOKEN, CALLBACK, "p-web", "p-spa", "p-tv", "p-jwt", "S256", "none", "login", "consent",
    "query", "form_post",
    "openid email offline_access", "a" * 43, "eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "..", '{"id_token":{}}',
    '{"userinfo":null,"id_token":{"acr":{"essential":true,"values":[1]}}}', "[]", "-1", "0", "9" * 30, "fr en",
    "BCDF-GHJK", "urn:ietf:params:oauth:request_uri:x", "/auth/account", "userName eq \"x\"", "((((", "mfa", "\u202e",
    "\x00", "%",
)  # fmt: skip
COOKIES = ("", "own", "own", "__Host-rempart-session=x", "__Host-rempart-form=x; __Host-rempart-step=y", "a=\x7f")
ENDING = ("/auth/sign-out", "/auth/account/sessions")  # afterwards somebody may be signed out
values = st.sampled_from(WORDS) | st.text(max_size=20)
pairs = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8)
BASIC = "Basic " + base64.b64encode(f"p-web:{SECRET}".encode()).decode()
AUTHORIZATIONS = (None, "own", BASIC, "Bearer x", "Bearer e30.e30.e30", "DPoP x", "Basic eDp5", "Basic ====")


class Somebody:
    """An account of this test's own, signed in by a browser and by a token; again when the fuzzing signed it out."""

    def __init__(self, idp: Idp) -> None:
        self._idp = idp
        self.email, self.password = f"fuzz{secrets.token_hex(3)}@bank.example", secrets.token_urlsafe(18)
        done = idp.bank.run("user", "add", "--email", self.email, "--role", "user", "--json", input=self.password)
        assert done.returncode == 0, done.stderr
        self.cookie = self.bearer = ""

    def refresh(self) -> None:
        with self._idp.http() as http:
            browser = Browser(http)
            sign_in(browser, self._idp.request_url(), self.email, self.password)
            self.cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies.jar)
            answer = http.post("/login", json={"email": self.email, "password": self.password})
            assert answer.status_code == 200, answer.text
            self.bearer = f"Bearer {answer.json()['access_token']}"


@pytest.fixture(scope="module")
def somebody(idp: Idp) -> Somebody:
    return Somebody(idp)


@pytest.fixture(scope="module")
def people(idp: Idp, somebody: Somebody) -> Iterator[httpx.Client]:
    with idp.http() as http:
        yield http


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(PATHS),
    method=st.sampled_from(("GET", "POST", "POST", "POST", "PUT", "PATCH", "DELETE")),
    query=pairs,
    form=pairs,
    kind=st.sampled_from(("application/x-www-form-urlencoded", "application/json", "application/scim+json")),
    raw=st.none() | st.binary(max_size=60),
    authorization=st.sampled_from(AUTHORIZATIONS),
    cookie=st.sampled_from(
        ("", "own", "own", "__Host-rempart-session=x", "__Host-rempart-form=x; __Host-rempart-step=y", "a=\x7f")
    ),
    proof=st.sampled_from(("", "e30.e30.e30", "x")),
)
def test_nothing_gets_a_5xx(
    idp: Idp,
    people: httpx.Client,
    somebody: Somebody,
    path: str,
    method: str,
    query: list[tuple[str, str]],
    form: list[tuple[str, str]],
    kind: str,
    raw: bytes | None,
    authorization: str | None,
    cookie: str,
    proof: str,
) -> None:
    if not somebody.bearer or (path in ENDING and method == "POST"):
        somebody.refresh()
    cookie = somebody.cookie if cookie == "own" else cookie
    authorization = somebody.bearer if authorization == "own" else authorization
    headers = {"content-type": kind, "origin": idp.bank.url, "accept": "text/html"}
    headers |= {"authorization": authorization} if authorization else {}
    headers |= {"cookie": cookie} if cookie else {}
    headers |= {"dpop": proof} if proof else {}
    body = None if method == "GET" else raw if raw is not None else urlencode(form).encode()
    target = path + ("?" + urlencode(query) if query else "")
    answer = people.request(method, target, headers=headers, content=body)
    assert answer.status_code < 500, (method, target, headers, body, answer.text)
    assert "Traceback" not in answer.text
