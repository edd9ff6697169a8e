"""Slowing down whoever guesses at a client's secret, per client and network, so that nobody else's failures count."""

from __future__ import annotations

import math

from rempart.kernel.errors import Throttled
from rempart.people.throttle import Attempt
from rempart.people.throttle_counters import Allowance, Counters, Place

SECRET = Allowance("secret", free=19, first=3, longest=3, forgiven_after=3, at_once=512)


class SecretGuesses:
    """`counters` are what instances share. Ours have 256 bits: this is for secrets that a person chose.

    A right secret forgives nothing: who guesses may sit in the network of a client that authenticates all day.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def begin(self, client_id: str, network: str) -> Attempt:
        """Raises Throttled `too_many_failures`, Unavailable `store_unavailable`."""
        places = [Place(SECRET, f"{client_id[:64]} {network}", own=False)]
        wait = await self._counters.start(places)
        if wait > 0:
            raise Throttled(
                "too_many_failures",
                "too many wrong secrets for this client from here",
                "wait as long as Retry-After says",
                retry_after=math.ceil(wait),
            )
        return Attempt(self._counters, places)
