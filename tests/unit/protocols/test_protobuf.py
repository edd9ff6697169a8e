"""The wire format by hand, held against protobuf's own runtime: what it writes is read alike, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.internal import decoder
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.protocols.protobuf import BYTES, Malformed, document, fields, varint
from rempart.protocols.spiffe import workload_pb2

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.integers(0, 2**64 - 1))
def test_numbers(value: int) -> None:
    assert decoder._DecodeVarint(varint(value), 0) == (value, len(varint(value)))
    assert next(fields(b"\x08" + varint(value))) == (1, 0, value)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [(b"\x08\x96\x01", 150), (b"\x08\x00", 0), (b"\x08\x80\x00", 0)],  # protobuf.dev, "Encoding"; a long zero is one
)
def test_published_numbers(encoded: bytes, value: int) -> None:
    assert list(fields(encoded)) == [(1, 0, value)]


def test_a_published_text() -> None:
    assert list(fields(b"\x12\x07testing")) == [(2, BYTES, b"testing")]  # protobuf.dev, "Length-Delimited Records"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a number that is cut off
        b"\x80",
        b"\x08" + b"\xff" * 10,  # longer than ten bytes
        b"\x0a\x05abc",  # bytes that are cut off
        b"\x09\x00",  # fixed64, cut off
        b"\x0d\x00",  # fixed32, cut off
        b"\x00\x00",  # field 0
        b"\x0b\x0c",  # a group
        b"\x0e",  # kinds that there are not
        b"\x0f",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # 2^64 - 1 bytes
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(Malformed):
        list(fields(data))


@given(st.binary(max_size=60))
def test_what_the_runtime_refuses_is_refused_and_what_is_taken_it_takes(data: bytes) -> None:
    try:
        list(fields(data))
    except Malformed:
        return
    message = workload_pb2.X509BundlesRequest()  # it has no fields: all are unknown to it
    try:
        message.ParseFromString(data)
    except DecodeError as error:  # pragma: no cover - shown when it fails
        raise AssertionError(f"{data!r} is no message to protobuf: {error}") from None


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_documents(content: dict[str, Any]) -> None:
    expected = Struct()
    expected.update(content)
    assert Struct.FromString(document(content)) == expected


def test_a_document_has_an_end() -> None:
    deep: Any = "end"
    for _ in range(40):
        deep = {"a": [deep]}
    with pytest.raises(BadInput) as refused:
        document(deep)
    assert refused.value.code == "too_deep"
    lists: Any = []
    for _ in range(100):
        lists = [lists]
    with pytest.raises(BadInput):
        document({"a": lists})
    with pytest.raises(BadInput) as refused:
        document({"a": 10**400})
    assert refused.value.code == "bad_number"
