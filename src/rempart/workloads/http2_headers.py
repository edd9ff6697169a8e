"""Header blocks: what makes a request well formed, and ours, which are literals that enter no table (RFC 7541)."""

from __future__ import annotations

MAX_HEADERS = 16384
"""Bytes of one request's."""
Headers = list[tuple[bytes, bytes]]
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_OF_CONNECTIONS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))


def well_formed(headers: Headers) -> bool:
    """A request as section 8.3.1 wants it, without what belongs to connections (section 8.2.2)."""
    seen: set[bytes] = set()
    regular = False
    for name, value in headers:
        if name[:1] == b":":
            if regular or name in seen or name not in _PSEUDO:
                return False
            seen.add(name)
            continue
        regular = True
        if not name or name != name.lower() or name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            return False
    return seen >= {b":method", b":scheme", b":path"}


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    encoded, value = bytearray((first | most,)), value - most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def header_block(*headers: tuple[str, str]) -> bytes:
    """Literals that enter no table (RFC 7541 section 6.2.2)."""
    block = bytearray()
    for name, value in headers:
        block += b"\0"
        for text in (name.encode(), value.encode()):
            block += _integer(len(text), 7, 0) + text
    return bytes(block)
