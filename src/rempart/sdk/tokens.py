"""Verify access tokens again at the service (requirement G2), with the keys that `people` publishes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from rempart.crypto.jose import Claims, Jwks, verify_access_token
from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.errors import RempartError, Unauthenticated, Unavailable

log = logging.getLogger("rempart.sdk.tokens")


class KeySet(Protocol):
    """Where the public keys come from."""

    async def fetch(self) -> Jwks:
        """The issuer's keys as they are now; raises RempartError when they can't be had."""


class TokenVerifier:
    """Keeps the issuer's keys at hand and verifies against them; one per process, used by many tasks at once.

    Keys older than `refresh_after` seconds are fetched anew in the background, those older than `refuse_after` aren't
    trusted any more: a key that its owner withdrew must not live on here because `people` can't be reached. A token
    that names an unknown key causes a fetch at most every `refetch_gap` seconds, whoever sends it.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        clock: Clock | None = None,
        refresh_after: float = 60.0,
        refuse_after: float = 900.0,
        refetch_gap: float = 2.0,
    ) -> None:
        self._source = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock or SystemClock()
        self._refresh_after = refresh_after
        self._refuse_after = refuse_after
        self._refetch_gap = refetch_gap
        self._jwks: Jwks | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def verify(self, token: str) -> Claims:
        """Raises Unauthenticated `invalid_token`, or Unavailable `keys_unavailable` when no fresh enough keys are to be
        had.
        """
        jwks = await self._keys()
        try:
            return self._check(token, jwks)
        except Unauthenticated as error:
            if not error.reason.endswith("unknown key") or not await self._refetch():
                raise
        return self._check(token, await self._keys())

    def _check(self, token: str, jwks: Jwks) -> Claims:
        return verify_access_token(token, jwks, self._issuer, self._audience, self._clock.now())

    async def _keys(self) -> Jwks:
        age = self._clock.monotonic() - self._fetched_at
        if self._jwks is None or age > self._refuse_after:
            await self._refetch()
            age = self._clock.monotonic() - self._fetched_at
            if self._jwks is None or age > self._refuse_after:
                raise Unavailable("keys_unavailable", "the keys that tokens are verified with can't be had just now")
        elif age > self._refresh_after:
            self._begin()
        return self._jwks

    def _begin(self) -> asyncio.Task[None] | None:
        """Start a fetch, or return the one under way; None within `refetch_gap` of the last."""
        if self._fetching is None:
            now = self._clock.monotonic()
            if now - self._tried_at < self._refetch_gap:
                return None
            self._tried_at = now
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _refetch(self) -> bool:
        """Whether a fetch took place that this caller may hope for news from."""
        task = self._begin()
        if task is None:
            return False
        await asyncio.shield(task)  # a caller that goes away must not take the others' keys with it
        return True

    async def _fetch(self) -> None:
        try:
            self._jwks = await self._source.fetch()
            self._fetched_at = self._clock.monotonic()
        except RempartError as error:
            log.warning("keys not refreshed: %s", error.reason)
        finally:
            self._fetching = None


class PublishedKeys:
    """The keys at `people`'s `/auth/jwks.json`; `get` asks for a path and returns the body of its 200 answer."""

    def __init__(self, get: Callable[[str], Awaitable[bytes]], path: str = "/auth/jwks.json") -> None:
        self._get = get
        self._path = path

    async def fetch(self) -> Jwks:
        return Jwks.parse(await self._get(self._path))
