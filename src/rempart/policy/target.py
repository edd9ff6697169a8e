"""What a request asks for: its path and query, read so that no service behind can read them differently.

Envoy has normalised the path already; here everything is refused that it should have left none of, and what two
readers could understand in two ways: dot segments, empty segments, encoded separators, double encoding, parameters
(`;`), control characters, what isn't UTF-8 (RFC 3986 sections 3.3, 5.2.4, 6.2.2).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from urllib.parse import unquote_to_bytes

MAX_TARGET = 8192
MAX_PARAMETERS = 128
_MAX_CACHED = 512  # bytes; longer targets are read anew each time
_PLAIN = re.compile(rb"(?=/)(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\;]|%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECRET = re.compile(
    r"token|code|secret|password|passwd|pwd|otp|assertion|signature|api_?key|session|ticket|authorization|email|phone"
    r"|login_hint|^(?:interaction|request|request_uri)$",  # of people's own pages: an address, and what waits there
    re.IGNORECASE,
)
MASK = "***"


class BadTarget(ValueError):
    """The text says what is wrong, without repeating the target."""


@dataclass(frozen=True, slots=True)
class Target:
    """`path` is decoded; `segments` are its parts without a last empty one; the rest is JSON for input and record.

    `head` holds the members path, segments and query of the policy input, `masked` the same with secrets left out
    (the very same object where there are none).
    """

    path: str
    segments: tuple[str, ...]
    quoted_path: str
    head: str
    masked: str


class Targets:
    """Reads targets, remembering the most recent ones. One event loop."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._known: OrderedDict[bytes, Target] = OrderedDict()

    def read(self, raw: bytes, *, lenient: bool = False) -> Target:
        """`raw` begins with `/`. `lenient` is the unsafe switch `normalize-path`. Raises BadTarget."""
        known = self._known.get(raw)
        if known is not None:
            return known
        target = parse(raw, lenient=lenient)
        if len(raw) <= _MAX_CACHED:
            if len(self._known) >= self._size:
                self._known.popitem(last=False)
            self._known[raw] = target
        return target


def parse(raw: bytes, *, lenient: bool = False) -> Target:
    if len(raw) > MAX_TARGET:
        raise BadTarget(f"it is longer than {MAX_TARGET} bytes")
    before, mark, after = raw.partition(b"?")
    path = before.decode("ascii") if _PLAIN.fullmatch(before) else _decode_path(before, lenient)
    query = _parse_query(after) if mark else {}
    segments = tuple(path.split("/")[1:])
    if segments and segments[-1] == "":
        segments = segments[:-1]
    quoted = quote(path)
    head = f'"path":{quoted},"segments":[{",".join(map(quote, segments))}],"query":'
    whole = head + _object(query)
    hidden = {name: MASK if _SECRET.search(name) else value for name, value in query.items()}
    return Target(path, segments, quoted, whole, whole if hidden == query else head + _object(hidden))


def _decode_path(raw: bytes, lenient: bool) -> str:
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise BadTarget("the path has bytes that must be percent-encoded") from None
    if not text.startswith("/"):
        raise BadTarget("the path does not begin with a slash")
    if _BAD_PERCENT.search(text):
        raise BadTarget("a percent sign is followed by no two hexadecimal digits")
    lowered = text.lower()
    if not lenient:
        if "%2f" in lowered or "%5c" in lowered:
            raise BadTarget("the path has an encoded slash or backslash")
        if "//" in text:
            raise BadTarget("the path has an empty segment")
    try:
        path = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget("the path is not UTF-8") from None
    if lenient:
        return _CONTROL.sub("?", path)
    if _FORBIDDEN.search(path):
        raise BadTarget("the path has a control character, a backslash, a semicolon or is encoded twice")
    if any(segment in (".", "..") for segment in path.split("/")):
        raise BadTarget("the path has a dot segment")
    return path


def _parse_query(raw: bytes) -> dict[str, str | list[str]]:
    """Names given several times become arrays, in their order (WHATWG URL, application/x-www-form-urlencoded)."""
    query: dict[str, str | list[str]] = {}
    if not raw:
        return query
    parts = raw.split(b"&")
    if len(parts) > MAX_PARAMETERS:
        raise BadTarget(f"the query has more than {MAX_PARAMETERS} parameters")
    for part in parts:
        if not part:
            continue
        name, _, value = part.partition(b"=")
        key, text = _decode_form(name), _decode_form(value)
        present = query.get(key)
        if present is None:
            query[key] = text
        elif isinstance(present, list):
            present.append(text)
        else:
            query[key] = [present, text]
    return query


def _decode_form(raw: bytes) -> str:
    try:
        text = raw.decode("ascii")
        if _BAD_PERCENT.search(text):
            raise BadTarget("the query has a percent sign without two hexadecimal digits")
        decoded = unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget("the query is not UTF-8") from None
    if "\x00" in decoded:
        raise BadTarget("the query has a NUL")
    return decoded


def _object(query: dict[str, str | list[str]]) -> str:
    if not query:
        return "{}"
    return "{" + ",".join(f"{quote(name)}:{_value(value)}" for name, value in query.items()) + "}"


def _value(value: str | list[str]) -> str:
    return quote(value) if isinstance(value, str) else "[" + ",".join(map(quote, value)) + "]"
