"""Queries (RFC 7644 sections 3.4.2 and 3.9): filter, sorting, pages, and which attributes are answered."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import filters
from .refusals import ScimRefusal

LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
MAX_RESULTS = 200
MAX_REACH = 20_000  # results that sorting may have to hold
_ALWAYS = frozenset({"id", "schemas"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """`start` counts from 1. `attributes` and `excluded` are paths in lower case; one of them is empty."""

    tree: filters.Filter | None = None
    sort_by: str = ""
    descending: bool = False
    start: int = 1
    count: int = MAX_RESULTS
    attributes: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()

    @staticmethod
    def read(given: Mapping[str, Any]) -> Query:
        """From query parameters (texts) or a SearchRequest (JSON). Raises ScimRefusal."""
        named = {name.lower(): value for name, value in given.items()}
        text = named.get("filter")
        order = str(named.get("sortorder") or "ascending").lower()
        if order not in ("ascending", "descending") or (text is not None and not isinstance(text, str)):
            raise ScimRefusal("invalidValue", "filter is a text, sortOrder ascending or descending")
        attributes, excluded = _paths(named.get("attributes")), _paths(named.get("excludedattributes"))
        if attributes and excluded:
            raise ScimRefusal("invalidValue", "attributes and excludedAttributes exclude each other")
        return Query(
            tree=filters.parse(text) if text else None,
            sort_by=filters.parse_path(str(named["sortby"])) if named.get("sortby") else "",
            descending=order == "descending",
            start=max(1, _number(named.get("startindex"), 1)),
            count=min(MAX_RESULTS, max(0, _number(named.get("count"), MAX_RESULTS))),
            attributes=attributes,
            excluded=excluded,
        )

    def window(self, finish: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Window:
        """`finish` is applied to what is answered."""
        if self.sort_by and self.start + self.count > MAX_REACH:
            raise ScimRefusal("tooMany", f"sorted results are only told up to number {MAX_REACH}")
        return Window(self, finish)

    def answer(self, documents: list[dict[str, Any]]) -> dict[str, Any]:
        window = self.window()
        for document in documents:
            window.add(document)
        return window.answer()

    def project(self, document: dict[str, Any]) -> dict[str, Any]:
        """Only the attributes that are asked for."""
        if self.attributes:
            return _keep(document, self.attributes)
        return _leave_out(document, self.excluded) if self.excluded else document


@dataclass
class Window:
    """Takes everything that matches, keeps what the page needs."""

    query: Query
    finish: Callable[[dict[str, Any]], dict[str, Any]]
    total: int = 0
    _kept: list[Any] = field(default_factory=list)

    def add(self, document: dict[str, Any]) -> None:
        query = self.query
        self.total += 1
        if query.sort_by:
            self._kept.append((_Key(document, query.sort_by), self.total, document))
            if len(self._kept) >= 2 * (query.start + query.count):
                self._kept = self._first()
        elif query.start <= self.total < query.start + query.count:
            self._kept.append(document)

    def answer(self) -> dict[str, Any]:
        query = self.query
        page = self._kept
        if query.sort_by:
            page = [document for *_, document in self._first()][query.start - 1 :]
        return {
            "schemas": [LIST],
            "totalResults": self.total,
            "startIndex": query.start,
            "itemsPerPage": len(page),
            "Resources": [query.project(self.finish(document)) for document in page],
        }

    def _first(self) -> list[Any]:
        choose = heapq.nlargest if self.query.descending else heapq.nsmallest
        return choose(self.query.start - 1 + self.query.count, self._kept, key=lambda entry: entry[0].value)


class _Key:
    """What is sorted by; users without the attribute come last (RFC 7644 section 3.4.2.3)."""

    def __init__(self, document: dict[str, Any], path: str) -> None:
        found = filters.values(document, path)
        leaf: Any = found[0] if found else None
        if isinstance(leaf, dict):
            leaf = leaf.get("value")
        text = "" if leaf is None else str(leaf)
        self.value = (leaf is None, text if path in filters.CASE_EXACT else text.casefold())


def _number(value: Any, default: int) -> int:
    if value is None:
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ScimRefusal("invalidValue", "startIndex and count are whole numbers") from None
    return max(-1, min(number, 10**9))


def _paths(value: Any) -> frozenset[str]:
    if not value:
        return frozenset()
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > 100 or not all(isinstance(path, str) for path in listed):
        raise ScimRefusal("invalidValue", "attributes are a list of paths")
    return frozenset(filters.parse_path(path.strip()) for path in listed if path.strip())


def _keep(document: dict[str, Any], asked: frozenset[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in document.items():
        lower = name.lower()
        below = {path.partition(".")[2] for path in asked if path.partition(".")[0] == lower}
        if lower in _ALWAYS or lower in asked:
            kept[name] = value
        elif below:
            kept[name] = _below(value, lambda key, below=below: key in below)
    return kept


def _leave_out(document: dict[str, Any], excluded: frozenset[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in document.items():
        lower = name.lower()
        below = {path.partition(".")[2] for path in excluded if path.startswith(lower + ".")}
        if lower not in excluded or lower in _ALWAYS:
            kept[name] = _below(value, lambda key, below=below: key not in below) if below else value
    return kept


def _below(value: Any, wanted: Any) -> Any:
    if isinstance(value, list):
        return [_below(entry, wanted) for entry in value]
    if isinstance(value, dict):
        return {key: member for key, member in value.items() if wanted(key.lower())}
    return value
