"""How often something may be asked for: a token bucket for each key, in memory, bounded."""

from __future__ import annotations

from collections import OrderedDict

from rempart.kernel.clock import Clock

MAX_KEYS = 8192


class Allowance:
    """`count` at once, refilled evenly within `seconds`. The least recently seen key is forgotten first."""

    def __init__(self, clock: Clock, count: int, seconds: float) -> None:
        self._clock, self._count, self._each = clock, count, seconds / count
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str) -> float:
        """0 when this one passes (it is counted then), else the seconds until one would."""
        now = self._clock.monotonic()
        full_at = max(self._full_at.get(key, now), now)
        over = full_at + self._each - now - self._count * self._each
        if over > 1e-9:
            return over
        self._full_at[key] = full_at + self._each
        self._full_at.move_to_end(key)
        if len(self._full_at) > MAX_KEYS:
            self._full_at.popitem(last=False)
        return 0.0
