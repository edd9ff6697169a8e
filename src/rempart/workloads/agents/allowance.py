"""How much one agent, or one address, may ask for: who took a host over must not keep the server from answering the
others."""

from __future__ import annotations

from collections import OrderedDict

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Throttled

RATE = 2500.0
"""Questions a second, one certificate or token counting as one: about 40 % of a core."""
BURST = 25_000.0
"""More than an agent with MAX_ENTRIES entries needs at once, when a root is replaced."""
EVENTS_OF_ONE = 5
"""So many events cost as much as one signature."""
STRANGERS = (50.0, 1000.0)
"""RATE and BURST of one address from which somebody would join."""
RENEWAL = 100.0
"""What a new SVID of the agent's own costs: it needs a few in its life."""
MOST = 8192


class Allowance:
    """A bucket for each agent, filled again with time. One event loop."""

    def __init__(self, clock: Clock, rate: float = RATE, burst: float = BURST) -> None:
        self._clock, self._rate, self._burst = clock, rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By agent, what was left and when; the least recently seen first."""

    def take(self, agent: str, cost: float = 1.0) -> None:
        """Raises Throttled `too_many_questions`. What costs more than there ever is can be had from a full bucket."""
        now = self._clock.monotonic()
        left, at = self._left.pop(agent, (self._burst, now))
        left = min(left + (now - at) * self._rate, self._burst)
        enough = left >= min(cost, self._burst)
        self._left[agent] = (left - cost if enough else left, now)
        while len(self._left) > MOST:
            self._left.popitem(last=False)
        if not enough:
            seconds = int((min(cost, self._burst) - left) / self._rate) + 1
            why = f"{agent or 'somebody'} asks for too much at a time"
            raise Throttled("too_many_questions", why, "it asks again by itself", retry_after=seconds)
