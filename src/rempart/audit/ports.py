"""What the audit room needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rempart.kernel.errors import Unavailable

from .model import Indexed, Query

if TYPE_CHECKING:
    from .feed import Page


class SearchIndex(Protocol):
    """An index over the log; it may be deleted at any time and is built again from the log.

    Untrusted: it only says where to look; what is shown is read from the log. Not thread-safe, but for `find`, which
    may run in several other threads. Any method may raise Unavailable `search_unavailable`; the index is then made anew
    when next opened.
    """

    @property
    def size(self) -> int:
        """Events [0, size) of the log are indexed."""

    def add(self, events: Sequence[Indexed], size: int) -> None:
        """Index `events`; from then on [0, size) are covered. Atomic; needn't be durable."""

    def find(self, query: Query, crowded: Callable[[], bool] = lambda: False) -> list[int]:
        """Indexes in the log, newest first, `query.limit` at most. Raises Unprocessable `search_too_broad`.

        `crowded`, which is asked now and then, says whether somebody else waits: then it may not take long.
        """

    def locate(self, id: str) -> list[int]:
        """Events whose own id, or else whose request id, is `id`, oldest first; may hold a few that are neither."""

    def counts(self) -> Mapping[str, int]:
        """Events by type."""

    def clear(self) -> None:
        """Forget everything: `size` is 0 again."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Item:
    """An event as it was recorded: one line of OCSF JSON. `id`: its leaf hash in the log (hex)."""

    index: int
    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """`rejected`: index → why it can never be taken. `mark`: the sink's own, handed back with the next batch."""

    mark: Mapping[str, Any]
    rejected: Mapping[int, str] = field(default_factory=dict)


class Busy(Unavailable):
    """Asked too much: send less, after `retry_after` seconds."""

    retry_after: float = 0.0


class Sink(Protocol):
    """Another system that is sent events. Used by one task."""

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        """Return when every event of `batch` was taken durably or is `rejected`; what it had before is no error.

        `mark` is that of the last batch which was confirmed, empty at first. Raises Unavailable, or Busy: then any
        part of the batch may have been taken, and it is sent again, perhaps cut differently.
        """

    async def close(self) -> None: ...


class Feed(Protocol):
    """The record in order."""

    async def read(self, start: int, wait: float) -> Page:
        """Events from index `start` on; waits up to `wait` seconds for the first. Raises Unavailable."""
