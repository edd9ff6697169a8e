"""What watching needs of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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


class TokenVerifier(Protocol):
    async def verify(self, token: str) -> Verified:
        """Raises Unauthenticated `invalid_token`, or Unavailable without keys."""
