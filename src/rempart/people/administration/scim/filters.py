"""Filters (RFC 7644 section 3.4.2.2): read into a tree, bounded in length and depth, and applied to resources.

    FILTER  = OR ; OR = AND *("or" AND) ; AND = TERM *("and" TERM)
    TERM    = "not" "(" FILTER ")" / "(" FILTER ")" / PATH "[" FILTER "]" / PATH "pr" / PATH OP VALUE

`not` binds strongest, then `and`, then `or`. Operators and attribute names don't care for case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .refusals import ScimRefusal

MAX_LENGTH = 2000  # characters
MAX_DEPTH = 20
OPERATORS = ("eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le")
CASE_EXACT = frozenset({"id", "externalid", "meta.version", "meta.location", "groups.$ref", "members.$ref"})
_TIMES = frozenset({"meta.created", "meta.lastmodified"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[()\[\]])|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))"""
    r"""|(?P<word>[A-Za-z$][\w$.:-]*))""",
    re.ASCII,
)
_URN = re.compile(r"urn:[\w.:-]+:(?=[A-Za-z$][\w$-]*(?:\.[A-Za-z$][\w$-]*)?\Z)", re.ASCII | re.IGNORECASE)
_PATH = re.compile(r"[A-Za-z$][\w$-]*(?:\.[A-Za-z$][\w$-]*)?", re.ASCII)
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Compare:
    path: str
    operator: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Present:
    path: str


@dataclass(frozen=True, slots=True)
class Has:
    """A value of the multi-valued attribute `path` for which `inner` holds."""

    path: str
    inner: Filter


@dataclass(frozen=True, slots=True)
class Not:
    inner: Filter


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[Filter, ...]


Filter = Compare | Present | Has | Not | All | Some


def parse(text: str) -> Filter:
    """Paths are in lower case, without a schema's URN. Raises ScimRefusal `invalidFilter`."""
    reader = _Reader(text)
    found = reader.some(0)
    if reader.peek()[0]:
        raise _bad("something follows after its end")
    return found


def parse_path(text: str) -> str:
    """An attribute path in lower case, without URN. Raises ScimRefusal `invalidPath`."""
    path = _URN.sub("", text)
    if len(text) > MAX_LENGTH or not _PATH.fullmatch(path):
        raise ScimRefusal("invalidPath", "this is not the path of an attribute")
    return path.lower()


class _Reader:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise _bad(f"it is longer than {MAX_LENGTH} characters")
        self._tokens = list(_tokens(text))
        self._at = 0

    def peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def some(self, depth: int) -> Filter:
        parts = [self.all(depth)]
        while self._word("or"):
            parts.append(self.all(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def all(self, depth: int) -> Filter:
        parts = [self.term(depth)]
        while self._word("and"):
            parts.append(self.term(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def term(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise _bad("it is nested too deeply")
        if self.peek() == ("word", "not") or (self.peek()[0] == "word" and self.peek()[1].lower() == "not"):
            self._at += 1
            self._mark("(")
            return Not(self._closed(depth, ")"))
        if self.peek() == ("mark", "("):
            self._at += 1
            return self._closed(depth, ")")
        kind, text = self._next()
        if kind != "word":
            raise _bad("an attribute is expected")
        path = parse_path(text)
        if self.peek() == ("mark", "["):
            self._at += 1
            return Has(path, self._closed(depth, "]"))
        kind, text = self._next()
        operator = text.lower()
        if kind == "word" and operator == "pr":
            return Present(path)
        if kind != "word" or operator not in OPERATORS:
            raise _bad("an operator is expected")
        return Compare(path, operator, self._value(operator))

    def _closed(self, depth: int, mark: str) -> Filter:
        inner = self.some(depth + 1)
        self._mark(mark)
        return inner

    def _value(self, operator: str) -> Scalar:
        kind, text = self._next()
        value: Scalar
        if kind == "word" and text.lower() in ("true", "false", "null"):
            value = {"true": True, "false": False, "null": None}[text.lower()]
        elif kind in ("string", "number"):
            try:
                value = json.loads(text)
            except ValueError:
                raise _bad("a value is not written as in JSON") from None
        else:
            raise _bad("a value is expected")
        if isinstance(value, bool | None) and operator not in ("eq", "ne"):
            raise _bad(f"{operator} does not compare true, false or null")
        return value

    def _word(self, word: str) -> bool:
        kind, text = self.peek()
        found = kind == "word" and text.lower() == word
        self._at += found
        return found

    def _mark(self, mark: str) -> None:
        if self._next() != ("mark", mark):
            raise _bad(f"{mark} is expected")

    def _next(self) -> tuple[str, str]:
        token = self.peek()
        if not token[0]:
            raise _bad("it ends too early")
        self._at += 1
        return token


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _bad(f"character {at + 1} is not understood")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()


def matches(resource: Any, tree: Filter, above: str = "") -> bool:
    """Whether the resource (JSON), or a value of its attribute `above`, is one that the filter means."""
    if isinstance(tree, All):
        return all(matches(resource, part, above) for part in tree.parts)
    if isinstance(tree, Some):
        return any(matches(resource, part, above) for part in tree.parts)
    if isinstance(tree, Not):
        return not matches(resource, tree.inner, above)
    if isinstance(tree, Has):
        return any(matches(value, tree.inner, tree.path) for value in values(resource, tree.path))
    found = [value for value in values(resource, tree.path) if value not in ("", [], {})]
    if isinstance(tree, Present):
        return bool(found)
    full = f"{above}.{tree.path}" if above else tree.path
    leaves = [value.get("value") if isinstance(value, dict) else value for value in found]
    if tree.value is None:
        return (not found) is (tree.operator == "eq")
    if tree.operator == "ne":
        return not any(_holds("eq", leaf, tree.value, full) for leaf in leaves)
    return any(_holds(tree.operator, leaf, tree.value, full) for leaf in leaves)


def values(resource: Any, path: str) -> list[Any]:
    """Everything at a path; of a multi-valued attribute each value."""
    found = [resource]
    for name in path.split("."):
        below: list[Any] = []
        for value in found:
            if isinstance(value, dict):
                for key, member in value.items():
                    if key.lower() == name and member is not None:
                        below.extend(member if isinstance(member, list) else [member])
        found = below
    return found


def _holds(operator: str, stored: Any, asked: Scalar, path: str) -> bool:
    if isinstance(stored, bool) or isinstance(asked, bool):
        return operator == "eq" and stored is asked
    if isinstance(stored, str) and isinstance(asked, str):
        if path in _TIMES:
            return _ordered(operator, _time(stored), _time(asked))
        if path not in CASE_EXACT:
            stored, asked = stored.casefold(), asked.casefold()
        if operator in ("co", "sw", "ew"):
            return bool({"co": str.__contains__, "sw": str.startswith, "ew": str.endswith}[operator](stored, asked))
        return _ordered(operator, stored, asked)
    if isinstance(stored, int | float) and isinstance(asked, int | float):
        return operator not in ("co", "sw", "ew") and _ordered(operator, stored, asked)
    return False


def _ordered(operator: str, left: Any, right: Any) -> bool:
    return bool(
        {"eq": left == right, "gt": left > right, "ge": left >= right, "lt": left < right, "le": left <= right}.get(
            operator, False
        )
    )


def _time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise _bad("a time is not written as in RFC 3339") from None
    if time.tzinfo is None:
        raise _bad("a time has no zone")
    return time.timestamp()


def _bad(why: str) -> ScimRefusal:
    return ScimRefusal("invalidFilter", f"the filter is not understood: {why}")
