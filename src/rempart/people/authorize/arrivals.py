"""How many requests a stranger may leave waiting here: each takes room in the store until it is over."""

from __future__ import annotations

import math

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Throttled

from ..administration.allowance import Allowance
from ..model import Origin

AT_ONCE = 600  # per network: an office behind one address, all signing in at nine
WITHIN = 120.0  # seconds in which as many more may come


class Arrivals:
    """In memory, by network; for who has not proved who they are, neither as a person nor as a client."""

    def __init__(self, clock: Clock) -> None:
        self._allowance = Allowance(clock, AT_ONCE, WITHIN)

    def admit(self, origin: Origin) -> None:
        """Raises Throttled `too_many_waiting`."""
        wait = self._allowance.wait(origin.network)
        if wait > 0:
            raise Throttled(
                "too_many_waiting",
                "too many requests from this network are waiting for somebody to sign in",
                "wait as long as Retry-After says",
                retry_after=math.ceil(wait),
            )
