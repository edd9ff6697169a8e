"""The wire format of protocol buffers (protobuf.dev, "Encoding"), as far as messages need it that are written by hand.

Those are the few that everybody on a host may send to the process with the CA's key: no parser in C reads them there,
and its runtime's 4 MB are in no process that stays. The tests hold each against the generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rempart.kernel.errors import BadInput

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_MAX_FIELD = (1 << 29) - 1
_MAX_DEPTH = 64


class Malformed(ValueError):
    """No message, or none of its type."""


def varint(value: int) -> bytes:
    """Of a number from 0 to 2^64 - 1."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def member(number: int, data: bytes) -> bytes:
    """A field of bytes, text or a message that is there even where it is empty."""
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def field(number: int, data: bytes) -> bytes:
    """A field that is left out where it is empty, as proto3 has it."""
    return member(number, data) if data else b""


def text(number: int, value: str) -> bytes:
    return field(number, value.encode())


def entries(number: int, content: Mapping[str, bytes]) -> bytes:
    """A `map<string, bytes>`."""
    return b"".join(member(number, member(1, key.encode()) + member(2, value)) for key, value in content.items())


def fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, kind and value of each field: an int for VARINT, bytes for the others. Raises Malformed; groups, which
    nobody sends any more, are none."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint_at(data, at)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD:
            raise Malformed("a field has no number")
        if kind == VARINT:
            value, at = _varint_at(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = _varint_at(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise Malformed("a field is of no kind that there is")
        if size > end - at:
            raise Malformed("a field is cut off")
        yield number, kind, data[at : at + size]
        at += size


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise Malformed("a number is too long")
    except IndexError:
        raise Malformed("a number is cut off") from None
    return value & (1 << 64) - 1, at


def decoded(data: bytes) -> str:
    """Raises Malformed for what is no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("a text is no UTF-8") from None


def of(data: bytes, number: int) -> list[bytes]:
    """All that a message has in a field of bytes, text or messages. Parts of one message are put together by joining
    them ("Last One Wins")."""
    return [value for found, kind, value in fields(data) if found == number and kind == BYTES]


def document(content: Mapping[str, Any], depth: int = 0) -> bytes:
    """A `google.protobuf.Struct` of what JSON can say. Raises BadInput `too_deep`."""
    if depth > _MAX_DEPTH:
        raise BadInput("too_deep", f"it is nested deeper than {_MAX_DEPTH} levels")
    return b"".join(
        member(1, member(1, key.encode()) + member(2, _value(value, depth))) for key, value in content.items()
    )


def _value(value: Any, depth: int) -> bytes:
    """A `google.protobuf.Value`."""
    if value is None:
        return b"\x08\x00"
    if isinstance(value, bool):
        return b"\x20\x01" if value else b"\x20\x00"
    if isinstance(value, int | float):
        try:
            return b"\x11" + struct.pack("<d", float(value))
        except OverflowError:
            raise BadInput("bad_number", "a number is larger than any that can be told") from None
    if isinstance(value, str):
        return member(3, value.encode())
    if isinstance(value, Mapping):
        return member(5, document(value, depth + 1))
    if depth > _MAX_DEPTH:
        raise BadInput("too_deep", f"it is nested deeper than {_MAX_DEPTH} levels")
    items: Iterable[Any] = value
    return member(6, b"".join(member(1, _value(item, depth + 1)) for item in items))
