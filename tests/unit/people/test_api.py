"""Whatever is sent, the answer is a 4xx with a reason: bad JSON, bad forms, bad headers, bad paths."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.people_harness import ISSUER, USERS, Harness, harness

from rempart.crypto.jose import Jwks


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[asyncio.Runner, Harness]]:
    """One composed room for all examples, without the throttle, which would hide the parsers after a while."""
    with asyncio.Runner() as runner:
        context = harness(unsafe_disabled=["login-throttle"])
        h = runner.run(context.__aenter__())
        yield runner, h
        runner.run(context.__aexit__(None, None, None))


def ask(running: tuple[asyncio.Runner, Harness], method: str, path: str, **more: Any) -> httpx.Response:
    runner, h = running
    h.api.cookies.clear()
    return runner.run(h.api.request(method, path, **more))


def well_refused(answer: httpx.Response) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    document = answer.json()
    if "error" in document:
        assert document["code"]
        return
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["code"]
    assert document["detail"]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"email"',
        b"\xff\xfe",
        b'{"email": "\xc3\x28", "password": "x"}',
        b'{"email": "a@b.example", "password": "x", "password": "y"}',
        b'{"email": "a@b.example", "password": NaN}',
        b'{"email": "a@b.example", "password": 1e999}',
        b'{"email": "a@b.example", "password": "\\ud800"}',
        b'{"email": "a@b.example"}',
        b'{"email": ["a@b.example"], "password": "x"}',
        b'{"email": "a@b.example", "password": {"$ne": ""}}',
        b'{"email": "a@b.example", "password": "x", "role": "admin"}',
        b'{"email": "a@b.example", "password": "x"} trailing',
        b"[" * 8000,
        b'{"a":' * 3000,
        b'{"email": "a@b.example", "password": ' + b"9" * 5000 + b"}",
        b'{"email": "' + b"x" * 20000 + b'", "password": "x"}',
    ],
)
def test_a_body_that_is_not_exactly_right_is_a_400(running: tuple[asyncio.Runner, Harness], body: bytes) -> None:
    answer = ask(running, "POST", "/login", content=body, headers=JSON)
    well_refused(answer)
    assert answer.status_code == (413 if len(body) > 16384 else 400)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_login_takes_json_alone(running: tuple[asyncio.Runner, Harness], media_type: str) -> None:
    """A browser sends forms and plain text across sites without asking first."""
    body = json.dumps({"email": "a@b.example", "password": "x"})
    answer = ask(running, "POST", "/login", content=body, headers={"content-type": media_type})
    assert answer.json()["code"] == "bad_content_type"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
names = st.sampled_from(["email", "password", "otp", "device"]) | st.text(max_size=10)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300) | st.dictionaries(names, values, max_size=5).map(lambda v: json.dumps(v).encode()))
def test_no_login_body_is_a_500(running: tuple[asyncio.Runner, Harness], body: bytes) -> None:
    well_refused(ask(running, "POST", "/login", content=body, headers=JSON))


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(["/auth/token", "/auth/revoke"]),
    body=st.binary(max_size=300)
    | st.dictionaries(
        st.sampled_from(["grant_type", "refresh_token", "scope", "token"]), st.text(max_size=60), max_size=4
    ).map(lambda form: str(httpx.QueryParams(form)).encode()),
)
def test_no_form_is_a_500(running: tuple[asyncio.Runner, Harness], path: str, body: bytes) -> None:
    answer = ask(running, "POST", path, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    if not (path == "/auth/revoke" and answer.status_code == 200):
        well_refused(answer)


header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=120).map(
    lambda t: t.encode("latin-1")
)


@settings(max_examples=100, deadline=None)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["x-forwarded-for", "x-request-id", "traceparent", "user-agent", "cookie", "authorization", "x-spiffe-id"]
        ),
        header_text,
        max_size=6,
    ),
    spiffe=st.sampled_from([None, "spiffe://bank.example/rempart/gateway", USERS]),
    path=st.sampled_from(["/login", "/accounts", "/accounts/usr_1", "/auth/userinfo", "/accounts/usr_1/payment"]),
)
def test_no_header_is_a_500(
    running: tuple[asyncio.Runner, Harness], headers: dict[str, bytes], spiffe: str | None, path: str
) -> None:
    sent = dict(headers)
    if spiffe:
        sent["x-spiffe-id"] = spiffe.encode()
    body = {"email": "nobody@bank.example", "password": "x"}
    well_refused(ask(running, "POST" if path == "/login" else "GET", path, json=body, headers=sent))


@settings(max_examples=60, deadline=None)
@given(path=st.text(max_size=60), method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]))
def test_no_path_is_a_500(running: tuple[asyncio.Runner, Harness], path: str, method: str) -> None:
    from urllib.parse import quote

    for prefix in ("/", "/accounts/", "/auth/"):
        answer = ask(running, method, prefix + quote(path, safe=""))
        assert answer.status_code < 500


@settings(max_examples=80, deadline=None)
@given(
    body=st.dictionaries(
        st.sampled_from(["email", "role", "name", "payment_limit", "password", "password_hash", "totp"]), values
    )
)
def test_no_new_account_is_a_500(running: tuple[asyncio.Runner, Harness], body: dict[str, Any]) -> None:
    runner, h = running
    base = {"email": "new@bank.example", "role": "user", "password": "short"}
    answer = runner.run(h.admin.post("/users", content=json.dumps({**base, **body}), headers=JSON))
    assert answer.status_code < 500


def test_the_published_key_set_is_cacheable_and_revalidates(running: tuple[asyncio.Runner, Harness]) -> None:
    answer = ask(running, "GET", "/auth/jwks.json")
    assert len(Jwks.parse(answer.content).kids()) == 6
    assert "d" not in answer.json()["keys"][0]
    assert answer.headers["cache-control"] == "public, max-age=60, must-revalidate"
    again = ask(running, "GET", "/auth/jwks.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/auth/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/auth"]
)
def test_discovery_lists_only_what_works(running: tuple[asyncio.Runner, Harness], path: str) -> None:
    """RFC 8414 section 3: every endpoint that it names answers."""
    document = ask(running, "GET", path).json()
    assert document["issuer"] == ISSUER
    endpoints = {name: url for name, url in document.items() if name.endswith(("_endpoint", "_uri"))}
    assert {"token_endpoint", "introspection_endpoint", "authorization_endpoint", "jwks_uri"} <= set(endpoints)
    for url in endpoints.values():
        assert url.startswith(ISSUER)
        answer = ask(running, "GET", url.removeprefix("https://localhost:8443"))
        assert answer.status_code in (200, 303, 400, 401, 405)


def test_the_metrics_page_counts(running: tuple[asyncio.Runner, Harness]) -> None:
    runner, h = running

    async def page() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(h.people.metrics), base_url="http://p") as client:
            return (await client.get("/metrics")).text

    text = runner.run(page())
    for name in (
        'rempart_people_logins_total{outcome="failed"}',
        'rempart_people_refreshes_total{outcome="refused"}',
        "rempart_people_argon2_queue 0.0",
        'rempart_people_signing_key_age_seconds{state="active"}',
    ):
        assert name in text
