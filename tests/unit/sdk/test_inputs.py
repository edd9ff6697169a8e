"""Strict reading: what isn't exactly what was asked for is a BadInput and never anything else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from rempart.kernel.errors import BadInput
from rempart.sdk import Body, idempotency_key, one, read_json
from rempart.sdk.inputs import decode_json


class Order(Body, frozen=True):
    receiver_id: str
    amount: int


GOOD = b'{"receiver_id": "acc_2", "amount": 12}'


class Sent:
    """A request as far as read_json looks at it."""

    def __init__(self, *chunks: bytes, content_type: str | None = "application/json") -> None:
        self.headers = {} if content_type is None else {"content-type": content_type}
        self._chunks = chunks

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def test_a_good_body() -> None:
    assert asyncio.run(read_json(Sent(GOOD[:9], GOOD[9:]), Order)) == Order("acc_2", 12)
    assert asyncio.run(read_json(Sent(GOOD, content_type="Application/JSON; charset=utf-8"), Order)).amount == 12


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"]
)
def test_only_json_is_read(content_type: str | None) -> None:
    with pytest.raises(BadInput) as refused:
        asyncio.run(read_json(Sent(GOOD, content_type=content_type), Order))
    assert refused.value.code == "bad_content_type"


def test_a_body_has_a_limit_and_reading_stops_there() -> None:
    read = 0

    class Endless(Sent):
        async def stream(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 1000
                yield b" " * 1000

    with pytest.raises(BadInput) as refused:
        asyncio.run(read_json(Endless(), Order, limit=5000))
    assert refused.value.code == "body_too_large"
    assert read <= 6000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"receiver_id": "a"}',
        b'{"receiver_id": "a", "amount": 1.0}',
        b'{"receiver_id": "a", "amount": 1e3}',
        b'{"receiver_id": "a", "amount": "1"}',
        b'{"receiver_id": "a", "amount": true}',
        b'{"receiver_id": "a", "amount": null}',
        b'{"receiver_id": "a", "amount": NaN}',
        b'{"receiver_id": "a", "amount": Infinity}',
        b'{"receiver_id": "a", "amount": 0x10}',
        b'{"receiver_id": "a", "amount": 01}',
        '{"receiver_id": "a", "amount": ١٢}'.encode(),
        b'{"receiver_id": "a", "amount": ' + b"9" * 5000 + b"}",
        b'{"receiver_id": 1, "amount": 1}',
        b'{"receiver_id": "a", "amount": 1, "amount": 2}',
        b'{"receiver_id": "a", "amount": 1, "\\u0061mount": 2}',
        b'{"receiver_id": "a", "amount": 1, "role": "admin"}',
        b'{"receiver_id": "\\ud800", "amount": 1}',
        b'{"receiver_id": "\xff", "amount": 1}',
        b'{"receiver_id": "a", "amount": 1} x',
        b'\xef\xbb\xbf{"receiver_id": "a", "amount": 1}',
        b'{"receiver_id": "a", "amount": 1,}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        GOOD.decode().encode("utf-16"),
    ],
)
def test_bad_bodies(body: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        decode_json(body, Order)
    assert refused.value.code == "bad_body"


@given(st.binary(max_size=200))
@example(GOOD)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        made = decode_json(body, Order)
    except BadInput:
        return
    assert type(made.amount) is int


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"receiver_id": JSON, "amount": JSON}))
def test_any_json_is_read_as_it_is_or_refused(document: dict[str, object]) -> None:
    right = isinstance(document["receiver_id"], str) and type(document["amount"]) is int
    try:
        made = decode_json(json.dumps(document).encode(), Order)
    except BadInput:
        encodable = right and str(document["receiver_id"]).encode("utf-8", "ignore").decode() == document["receiver_id"]
        assert not encodable
        return
    assert right
    assert (made.receiver_id, made.amount) == (document["receiver_id"], document["amount"])


ID = re.compile(r"[a-z]{1,8}")


def test_one_query_parameter() -> None:
    assert one([("a", "x"), ("b", "y")], "b", ID) == "y"
    assert one([], "b", ID, default="z") == "z"
    for items in ([], [("b", "y"), ("b", "y")], [("b", "")], [("b", "Y")], [("b", "y\n")], [("b", "y" * 9)]):
        with pytest.raises(BadInput):
            one(items, "b", ID)


def test_the_idempotency_key() -> None:
    for good in ("k", "0198-…"[:5], "x" * 128, '"quoted"'):
        assert idempotency_key(Headers({"Idempotency-Key": good})) == good
        assert idempotency_key({"Idempotency-Key": good}) == good
    for bad in ("", " ", "a b", "x" * 129, "é", "a\tb", "a\nb"):
        with pytest.raises(BadInput):
            idempotency_key({"idempotency-key": bad})
    twice = Headers(raw=[(b"idempotency-key", b"a"), (b"idempotency-key", b"a")])
    for headers in (twice, Headers({})):
        with pytest.raises(BadInput) as refused:
            idempotency_key(headers)
        assert refused.value.code == "idempotency_key_required"
