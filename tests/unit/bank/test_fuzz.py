"""Whatever is sent to the bank's services, no answer is a 5xx, and every refusal is a problem document."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bank_support import AGENT, PAYMENT, Bank, opened
from tests.sdk_support import GATEWAY, headers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "receiver_id": st.sampled_from(["ann", "bob", "", "'", "nobody"]) | JSON,
        "amount": st.sampled_from([1, 0, -1, 10**12, 2**63, 2**64]) | JSON,
        "source": st.just("ann") | JSON,
        "destination": st.just("bob") | JSON,
        "reason": st.text(max_size=10) | JSON,
        "role": JSON,
        "payment_limit": JSON,
    },
)
BODY = st.binary(max_size=60) | (NEARLY | JSON).map(lambda document: json.dumps(document).encode())
PATH = st.sampled_from(
    [
        "/wallet",
        "/deposit",
        "/transfers",
        "/transactions",
        "/transactions/x/rollback",
        "/payments",
        "/users",
        "/users/ann",
    ]
) | st.text("/.;%abc\x00é ?#", max_size=12).map(lambda text: "/" + quote(text, safe="/.;%"))
QUERY = st.dictionaries(
    st.sampled_from(["user_id", "since", "limit", "after", "x"]),
    st.sampled_from(["ann", "1", "500", "after-0-1", "2027-01-01", "0", "999999999999"]) | st.text(max_size=12),
    max_size=3,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["idempotency-key", "content-type", "x-request-id", "traceparent", "accept", "x-spiffe-id"]),
        st.sampled_from(["k", "application/json", ""])
        | st.text(st.characters(max_codepoint=255, min_codepoint=32), max_size=9),
    ),
    max_size=3,
)
WHO = st.sampled_from(
    [
        ("ann", "user", GATEWAY),
        ("ann", "user", PAYMENT),
        ("fin", "finance", GATEWAY),
        ("root", "admin", GATEWAY),
        ("", "", AGENT),
        None,
    ]
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = Path(tmp_path_factory.mktemp("bank"))
    with asyncio.Runner() as runner:
        context = opened(directory)
        opened_bank = runner.run(context.__aenter__())
        yield runner, opened_bank
        runner.run(context.__aexit__(None, None, None))


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    service=st.sampled_from(["wallet", "payment", "users"]),
    method=st.sampled_from(["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    path=PATH,
    query=QUERY,
    body=BODY,
    who=WHO,
    more=HEADERS,
)
def test_no_answer_is_a_5xx(
    bank: tuple[asyncio.Runner, Bank],
    service: str,
    method: str,
    path: str,
    query: dict[str, str],
    body: bytes,
    who: tuple[str, str, str] | None,
    more: list[tuple[str, str]],
) -> None:
    runner, it = bank
    identity = headers(who[0], who[1], workload=who[2]) if who else []
    given = [(name.encode(), value.encode("latin-1")) for name, value in [*identity, *more]]
    if not any(name == "content-type" for name, _ in more):
        given.append((b"content-type", b"application/json"))
    if not any(name == "idempotency-key" for name, _ in more):
        given.append((b"idempotency-key", b"fuzz"))
    http = getattr(it, service)
    request = http.build_request(method, "http://service/", params=query, content=body, headers=given)
    request.url = request.url.copy_with(path=path)
    answer = runner.run(http.send(request))
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    soundness = runner.run(it.ledger.examine())
    assert not soundness.problems
