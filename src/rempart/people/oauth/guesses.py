"""Slowing down whoever guesses at a client's secret, per client and network, so that nobody else's failures count."""

from __future__ import annotations

import math
from collections import OrderedDict

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Throttled

FREE = 20.0  # failures
FORGIVEN_AFTER = 3.0  # seconds, for each
MAX_ENTRIES = 8192


class SecretGuesses:
    """In memory, for one process: secrets have 256 bits, this is for those that a person chose."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def check(self, client_id: str, network: str) -> None:
        """Raises Throttled `too_many_failures`."""
        excess = self._left(client_id, network) - FREE
        if excess >= 0:
            raise Throttled(
                "too_many_failures",
                "too many wrong secrets for this client from here",
                "wait as long as Retry-After says",
                retry_after=math.ceil((excess + 1) * FORGIVEN_AFTER),
            )

    def failed(self, client_id: str, network: str) -> None:
        key = (client_id[:64], network)
        self._failures[key] = (self._left(client_id, network) + 1, self._clock.monotonic())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_ENTRIES:
            self._failures.popitem(last=False)

    def _left(self, client_id: str, network: str) -> float:
        count, at = self._failures.get((client_id[:64], network), (0.0, 0.0))
        return max(0.0, count - (self._clock.monotonic() - at) / FORGIVEN_AFTER)
