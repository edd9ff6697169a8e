"""Whatever a stranger sends to any endpoint of OAuth: an answer below 500, and OAuth's own shape of errors."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.oauth_support import FORM, OAuthHarness, oauth
from tests.people_harness import GATEWAY

POSTS = ("token", "introspect", "revoke", "par", "device_authorization", "register", "authorize", "userinfo")
NAMES = (
    *("grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "token"),
    *("refresh_token", "code", "redirect_uri", "code_verifier", "username", "password", "subject_token", "resource"),
    *("subject_token_type", "audience", "device_code", "assertion", "request_uri", "request", "state", "nonce", "x"),
)
WORDS = (
    *("authorization_code", "refresh_token", "client_credentials", "password", "", "svc", "app", "login", "openid"),
    *("urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
    *("urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    *(
        "fam_00000000000000000000000000.x.y",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30.",
        "\\x00",
        "\\ud800",
        "ä",
        "%",
        "%zz",
        "\\n",
    ),
)
TEXTS = st.sampled_from(WORDS) | st.text(max_size=30)
FORMS = st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), max_size=8)
HEADER_NAMES = st.sampled_from(
    ["authorization", "dpop", "content-type", "x-spiffe-id", "x-forwarded-client-cert", "x-forwarded-for", "cookie",
     "accept", "accept-language", "origin", "traceparent", "x-request-id", "user-agent", "content-length", "host"]
)  # fmt: skip
HEADER_VALUES = st.binary(max_size=40) | st.sampled_from(
    [b"Basic", b"Basic !", b"Basic OjpA", b"Basic " + b"A" * 9000, b"Bearer", b"Bearer x", b"DPoP x", b"a.b.c",
     b"application/json", b"application/x-www-form-urlencoded; charset=utf-7", b"multipart/form-data", b"\xff\xfe",
     b"-1", GATEWAY.encode(), b"spiffe://bank.example/payment", b"Hash=zz", b"00-xyz"]
)  # fmt: skip
BODIES = st.binary(max_size=200) | st.sampled_from(
    [b"&", b"=", b"a=%", b"a=%ff", b"a&a&a", b"%00=%00", b"[]", b"x" * 20000]
)


def encoded(pairs: list[tuple[str, str]]) -> bytes:
    from urllib.parse import urlencode

    return urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs]).encode()


async def begin() -> tuple[Any, OAuthHarness]:
    context = oauth(client_registration="invited")
    h = await context.__aenter__()
    await h.client("svc")
    await h.client("app", method="none", redirect_uris=["https://app.example/cb"])
    return context, h


async def status(app: Any, method: str, path: str, query: bytes) -> int:
    """Straight to the application: no client library would send such a query."""
    seen: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            seen.append(message["status"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": query, "root_path": "", "scheme": "https", "headers": [], "server": ("people", 443),
             "client": ("127.0.0.1", 1), "asgi": {"version": "3.0"}}  # fmt: skip
    await app(scope, receive, send)
    return seen[0]


def sane(answer: httpx.Response, path: str) -> None:
    assert answer.status_code < 500, (path, answer.status_code, answer.text)
    if answer.status_code in (400, 401) and answer.headers.get("content-type") == "application/json":
        document = answer.json()
        assert document["error"]
        assert all(" " <= letter <= "~" and letter not in '"\\' for letter in document["error_description"])


def test_no_form_no_header_and_no_body_breaks_an_endpoint() -> None:
    runner = asyncio.Runner()
    context, h = runner.run(begin())

    @given(
        st.sampled_from(POSTS),
        FORMS.map(encoded) | BODIES,
        st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4),
        st.booleans(),
    )
    @example("token", b"grant_type=client_credentials", [("authorization", b"Basic \xff")], True)
    @example("token", b"grant_type=client_credentials&client_id=%00", [], True)
    @example("introspect", b"token=%ed%a0%80", [], True)
    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def sent(path: str, body: bytes, headers: list[tuple[str, bytes]], as_form: bool) -> None:
        given_headers = [(name.encode(), value) for name, value in headers if name not in ("content-length", "host")]
        if as_form:
            given_headers.append((b"content-type", FORM.encode()))
        request = h.people.api.build_request("POST", f"/auth/{path}", content=body, headers=given_headers)
        sane(runner.run(h.people.api.send(request)), path)

    @given(
        st.sampled_from(["authorize", "userinfo", "jwks.json", ".well-known/openid-configuration", "logout", "token"]),
        st.binary(max_size=60) | FORMS.map(encoded),
        st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    )
    @settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def asked(path: str, query: bytes, method: str) -> None:
        assert runner.run(status(h.people.people.api, method, f"/auth/{path}", query)) < 500, (path, query)

    try:
        sent()
        asked()
    finally:
        runner.run(context.__aexit__(None, None, None))
        runner.close()
