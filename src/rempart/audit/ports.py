"""What the audit room needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .model import Indexed, Query


class SearchIndex(Protocol):
    """An index over the log; it may be deleted at any time and is built again from the log.

    Untrusted: it only says where to look; what is shown is read from the log. Not thread-safe, but for `find`, which
    may run in other threads. Any method may raise Unavailable `search_unavailable`; the index is then made anew when
    next opened.
    """

    @property
    def size(self) -> int:
        """Events [0, size) of the log are indexed."""

    def add(self, events: Sequence[Indexed], size: int) -> None:
        """Index `events`; from then on [0, size) are covered. Atomic; needn't be durable."""

    def find(self, query: Query) -> list[int]:
        """Indexes in the log, newest first, `query.limit` at most. Raises Unprocessable `search_too_broad`."""

    def locate(self, id: str) -> list[int]:
        """Events whose own id, or else whose request id, is `id`, oldest first; may hold a few that are neither."""

    def counts(self) -> Mapping[str, int]:
        """Events by type."""

    def close(self) -> None: ...
