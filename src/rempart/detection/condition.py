"""Sigma's condition expressions: `and`, `or`, `not`, parentheses, `1 of …`, `all of …`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .matching import Own, Predicate, all_of, any_of, named, refuse

Selection = tuple[Predicate, frozenset[str] | None]
_TOKEN = re.compile(r"\s*(?:(\()|(\))|((?:1|any|all)\s+of\s+[A-Za-z0-9_*]+)|([A-Za-z0-9_]+))")
_MAX_DEPTH = 32


def compile_condition(where: str, text: str, selections: Mapping[str, Selection]) -> Selection:
    """Raises BadInput `bad_rule`. `|` (aggregations of Sigma 1) is refused: correlations say it now."""
    tokens: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise refuse(where, f"its condition can't be read from {text[at : at + 30]!r}")
        tokens.append(found.group(0).strip())
        at = found.end()
    reader = _Reader(where, tokens, selections)
    result = reader.alternatives(0)
    if reader.at != len(tokens):
        raise refuse(where, f"its condition has {tokens[reader.at]!r} where nothing more is expected")
    return result


class _Reader:
    def __init__(self, where: str, tokens: list[str], selections: Mapping[str, Selection]) -> None:
        self.where, self.tokens, self.selections = where, tokens, selections
        self.at = 0

    def _next(self) -> str:
        return self.tokens[self.at].lower() if self.at < len(self.tokens) else ""

    def alternatives(self, depth: int) -> Selection:
        if depth > _MAX_DEPTH:
            raise refuse(self.where, "its condition is nested too deeply")
        parts = [self._together(depth)]
        while self._next() == "or":
            self.at += 1
            parts.append(self._together(depth))
        return _either(parts)

    def _together(self, depth: int) -> Selection:
        parts = [self._single(depth)]
        while self._next() == "and":
            self.at += 1
            parts.append(self._single(depth))
        return _both(parts)

    def _single(self, depth: int) -> Selection:
        if depth > _MAX_DEPTH:
            raise refuse(self.where, "its condition is nested too deeply")
        word = self._next()
        self.at += 1
        if word == "not":
            test, _ = self._single(depth + 1)

            def negated(own: Own) -> bool:
                return not test(own)

            return negated, None
        if word == "(":
            inner = self.alternatives(depth + 1)
            if self._next() != ")":
                raise refuse(self.where, "its condition lacks a closing parenthesis")
            self.at += 1
            return inner
        token = self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""
        quantity = re.fullmatch(r"(1|any|all)\s+of\s+(\S+)", token, re.IGNORECASE)
        if quantity:
            chosen = [self.selections[name] for name in named(self.selections, quantity[2])]
            if not chosen:
                raise refuse(self.where, f"{token!r} is about no search identifier")
            return _both(chosen) if quantity[1].lower() == "all" else _either(chosen)
        if token not in self.selections:
            raise refuse(self.where, f"its condition names {token!r}, which is no search identifier")
        return self.selections[token]


def _either(parts: list[Selection]) -> Selection:
    known = [types for _, types in parts if types is not None]
    types = frozenset[str]().union(*known) if len(known) == len(parts) else None
    return any_of([test for test, _ in parts]), types


def _both(parts: list[Selection]) -> Selection:
    types: frozenset[str] | None = None
    for _, these in parts:
        if these is not None:
            types = these if types is None else types & these
    return all_of([test for test, _ in parts]), types
