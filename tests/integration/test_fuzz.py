"""Whatever is sent through the gateway to the running bank, the answer is never a 5xx and never a traceback."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.conftest import Running

ROUTES = (
    ("POST", "/login"),
    ("GET", "/wallet"),
    ("POST", "/payments"),
    ("GET", "/users"),
    ("GET", "/users/{}"),
    ("PATCH", "/users/{}"),
    ("GET", "/transactions"),
    ("POST", "/transactions/{}/rollback"),
    ("GET", "/logs"),
    ("GET", "/opa/policies"),
    ("GET", "/metrics"),
    ("POST", "/auth/token"),
    ("POST", "/auth/revoke"),
    ("GET", "/auth/userinfo"),
    ("GET", "/auth/jwks.json"),
)
KEYS = (
    "email",
    "password",
    "otp",
    "receiver_id",
    "amount",
    "reason",
    "role",
    "payment_limit",
    "disabled",
    "display_name",
)
PARAMETERS = ("user_id", "since", "until", "limit", "person", "type", "text", "before", "x")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4).map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.text(max_size=60).map(lambda text: f"grant_type=refresh_token&refresh_token={text}".encode("utf-8", "replace")),
)
segments = st.text(st.characters(codec="utf-8"), max_size=12)
header_values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def client(bank: Running) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=bank.ca)
    with httpx.Client(base_url=bank.url, verify=context, timeout=20) as connected:
        yield connected


@pytest.fixture(scope="module")
def tokens(bank: Running) -> dict[str, str]:
    return {role: bank.token(role) for role in ("user", "admin", "finance", "audit")}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    route=st.sampled_from(ROUTES),
    other_method=st.none() | st.sampled_from(("GET", "PUT", "DELETE", "PATCH", "OPTIONS")),
    role=st.sampled_from(("user", "admin", "finance", "audit", "")),
    segment=segments,
    query=st.lists(st.tuples(st.sampled_from(PARAMETERS), st.text(max_size=12)), max_size=3),
    body=bodies,
    content_type=st.sampled_from(
        ("application/json", "application/x-www-form-urlencoded", "text/plain", "x/y; charset=q")
    ),
    key=st.none() | header_values,
)
def test_no_input_gets_a_5xx(
    client: httpx.Client,
    tokens: dict[str, str],
    route: tuple[str, str],
    other_method: str | None,
    role: str,
    segment: str,
    query: list[tuple[str, str]],
    body: bytes,
    content_type: str,
    key: str | None,
) -> None:
    method, path = route
    target = path.format(quote(segment, safe="/;:@%")) + ("?" + urlencode(query) if query else "")
    url = client.base_url.copy_with(raw_path=target.encode())
    headers = {"content-type": content_type}
    if role:
        headers["authorization"] = f"Bearer {tokens[role]}"
    if key is not None:
        headers["idempotency-key"] = key
    answer = client.request(other_method or method, url, headers=headers, content=body)
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code >= 400 and "/auth/" not in path and (other_method or method) != "OPTIONS":
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        assert {"type", "title", "status", "detail", "code"} <= set(answer.json())


def test_nothing_crashed_meanwhile(bank: Running, client: httpx.Client) -> None:
    assert client.get("/auth/jwks.json").status_code == 200
    assert all(one["ready"] and one["restarts"] == 0 for one in bank.now()["processes"])
