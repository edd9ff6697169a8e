"""What watching needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from rempart.kernel.event import Event


class MetricsSource(Protocol):
    """A component that counts."""

    async def page(self) -> str:
        """Its metrics in Prometheus' text format; raises OSError or TimeoutError when it doesn't answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream answered: `body` is JSON as bytes."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Reader(Protocol):
    """A read-only interface of another process."""

    async def get(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """Raises Unavailable when there is no answer."""


class Verified(Protocol):
    """What a valid access token says of a person."""

    @property
    def role(self) -> str: ...

    @property
    def subject(self) -> str: ...


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> Verified:
        """Raises Unauthenticated `invalid_token`, or Unavailable without keys."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is thought to be: ISO 3166-1 alpha-2 country, degrees."""

    country: str
    latitude: float
    longitude: float


class Places(Protocol):
    """An offline file of networks and where they are. Read-only, safe from any thread, untrusted: files are wrong."""

    def locate(self, ip: str) -> Place | None:
        """None for what is no address, and for addresses that the file doesn't know. Never raises."""


class FeedPage(Protocol):
    """Some events in the order of the log, each with its leaf hash (`deleted-INDEX` once retention deleted it).

    `size` is how many the log has.
    """

    @property
    def size(self) -> int: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def events(self) -> Sequence[msgspec.Raw]: ...


class EventFeed(Protocol):
    """The log, in its order."""

    async def read(self, start: int, wait: float) -> FeedPage:
        """Events from index `start` on; waits up to `wait` seconds for the first. Raises Unavailable."""


class AlertRecorder(Protocol):
    async def raise_alert(self, event: Event) -> None:
        """Return when durable; an event whose id was recorded before is the same event. Raises Unavailable."""
