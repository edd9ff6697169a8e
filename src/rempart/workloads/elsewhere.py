"""Another system gives the trust domain's identities: what is left to do here is the gateway's web certificate."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from rempart.crypto.x509 import Certificate, EcKey
from rempart.kernel.errors import Denied, NotFound, RempartError
from rempart.kernel.spiffe import SpiffeId

from .entry_index import EntryIndex
from .identities import Grant, Identities
from .model import Bundle, Entry, Facts, JwtDraft
from .process import Process

PERIOD = 5.0


class Elsewhere:
    """An `X509Signer`, `JwtSigner` and partner list that knows the bundle and signs nothing. `socket`: where identities
    are to be had. `look` fetches the bundle."""

    def __init__(self, socket: str, first: Bundle, look: Callable[[], Awaitable[Bundle]]) -> None:
        self._socket, self._bundle, self._look = socket, first, look
        self.generation = self.active_kid = ""

    async def keep_looking(self, announce: Callable[[], None]) -> None:
        """For ever; while it can't be fetched the last one is shown."""
        while True:
            await asyncio.sleep(PERIOD * random.uniform(0.8, 1.2))  # nosec B311 - jitter, no secret
            with contextlib.suppress(RempartError):
                bundle = await self._look()
                changed = bundle != self._bundle
                self._bundle = bundle
                if changed:
                    announce()

    @property
    def roots(self) -> tuple[Certificate, ...]:
        return self._bundle.roots

    @property
    def sequence(self) -> int:
        return self._bundle.sequence

    def public_keys(self) -> tuple[Mapping[str, Any], ...]:
        return self._bundle.jwt_keys

    def bundles(self, trust_domains: Sequence[str]) -> Sequence[Any]:
        return ()

    def describe(self) -> dict[str, object]:
        """For the admin API, as `JwtAuthority.describe`."""
        return {"kind": "jwt", "active": None, "keys": [{"kid": key["kid"]} for key in self.public_keys()]}

    async def sign(self, entry: Entry, key: EcKey) -> tuple[Certificate, ...]:
        raise self._refusal()

    async def draft(self, entry: Entry, audiences: tuple[str, ...]) -> JwtDraft:
        raise self._refusal()

    def validate(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        raise self._refusal()

    async def rotate(self, operator: str, lead: float | None) -> float | None:
        raise NotFound("unknown_authority", "the keys of JWT-SVIDs are SPIRE's own", "rotate them there")

    def _refusal(self) -> Denied:
        return Denied(
            "identities_elsewhere", "identities are given elsewhere here", f"ask SPIRE's agent: unix://{self._socket}"
        )


class NoPartners:
    """Federation is the other system's affair."""

    def describe(self) -> list[dict[str, object]]:
        return []


class FixedEntries:
    """`KnownEntries` that never change."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._index = EntryIndex(entries)

    def entries(self) -> Sequence[Entry]:
        return self._index.entries

    def matching(self, facts: Facts) -> list[Entry]:
        return self._index.matching(facts.selectors, 0.0)

    def asks_for(self) -> frozenset[tuple[str, str]]:
        return self._index.kinds

    def next_expiry(self) -> float | None:
        return None


class WebOnly(Identities):
    """`Identities` for one caller, the gateway, and one certificate, `web`."""

    async def grant(self, process: Process) -> Grant:
        facts, entries = await self.identify(process)
        return Grant(facts, tuple(entries), (), self.clock.now() + PERIOD)
