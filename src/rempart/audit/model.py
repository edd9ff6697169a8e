"""What is asked of the record and what is found."""

from __future__ import annotations

from dataclasses import dataclass

from rempart.protocols.ocsf import Summary

MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Newest first. `since` and `until` are milliseconds since the epoch; `before` and `after` are indexes in
    the log: those below the one, those from the other on.

    `type` may name a group with a trailing dot (`money.`), `path` a prefix with a trailing asterisk. `text` is words
    that all stand in the path or the free text; one that ends with an asterisk is the beginning of a word.
    """

    person: str | None = None
    workload: str | None = None
    type: str | None = None
    since: int | None = None
    until: int | None = None
    allowed: bool | None = None
    rule: str | None = None
    path: str | None = None
    text: str | None = None
    before: int | None = None
    after: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Indexed:
    """An event and its index in the log."""

    index: int
    summary: Summary
