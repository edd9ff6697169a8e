"""Slowing down whoever guesses passwords, and not the person they guess at.

Each attempt is counted in up to three places: the account from this network, the network over all accounts, and the
account over all unknown networks. Past a free allowance each further failure doubles the wait. Someone on a known
device is counted by that device only, someone on a network that the account logged in from before by that pair only;
so an attacker elsewhere never locks the owner out (OWASP's "device cookies"). Attempts that are refused are not
counted and not hashed, so hammering doesn't prolong the wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Throttled

from .throttle_counters import Allowance, Counters, LocalCounters, Place

PAIR = Allowance("pair", free=5, first=1, longest=900, forgiven_after=3600, at_once=16)
DEVICE = Allowance("device", free=10, first=1, longest=300, forgiven_after=300, at_once=16)
ACCOUNT = Allowance("account", free=100, first=1, longest=300, forgiven_after=120, at_once=64)
FACTOR = Allowance("factor", free=10, first=60, longest=3600, forgiven_after=3600, at_once=16)
NETWORK = Allowance("network", free=100, first=1, longest=60, forgiven_after=10, at_once=512)


class Attempt:
    """One login under way; call exactly one of `succeeded`, `failed` and `abandoned`. All raise Unavailable."""

    def __init__(self, counters: Counters, places: Sequence[Place]) -> None:
        self._counters, self._places = counters, places

    async def succeeded(self) -> None:
        await self._finish(succeeded=True)

    async def failed(self) -> None:
        await self._finish(failed=True)

    async def abandoned(self) -> None:
        """It was never judged: the pool was full, or the record was down."""
        await self._finish()

    async def _finish(self, *, failed: bool = False, succeeded: bool = False) -> None:
        places, self._places = self._places, ()
        if places:
            await self._counters.finish(places, failed=failed, succeeded=succeeded)


class Throttle:
    """`counters`: what instances share; by itself each process counts for itself."""

    def __init__(self, clock: Clock, counters: Counters | None = None, *, enabled: bool = True) -> None:
        self._counters = counters or LocalCounters(clock)
        self._enabled = enabled

    async def begin(
        self, account: str, network: str, *, device: str | None = None, known_network: bool = False
    ) -> Attempt:
        """`account` stands for the e-mail address that was typed, whether or not it has an account.

        Raises Throttled `login_throttled`, the same for every reason, and Unavailable `store_unavailable`.
        """
        if not self._enabled:
            return Attempt(self._counters, ())
        pair = Place(PAIR, f"{account} {network}", own=True)
        if device is not None:
            places = [Place(DEVICE, device, own=True)]
        elif known_network:
            places = [pair]
        else:
            # A success washes only the pair clean. The network's other users may include the attacker; and were the
            # account's failures forgiven by its owner's login, who watches from afar could tell it from one that
            # doesn't exist.
            places = [pair, Place(NETWORK, network, own=False), Place(ACCOUNT, account, own=False)]
        return await self._start(places)

    async def begin_factor(self, account: str, device: str | None) -> Attempt:
        """For a one-time code of somebody whose password was right: six digits allow but few guesses in all.

        From everywhere they count together, so a right password and many addresses don't give more; only a known
        device counts for itself. Raises as `begin`.
        """
        if not self._enabled:
            return Attempt(self._counters, ())
        place = Place(FACTOR, account, own=True) if device is None else Place(DEVICE, f"factor {device}", own=True)
        return await self._start([place])

    async def _start(self, places: Sequence[Place]) -> Attempt:
        wait = await self._counters.start(places)
        if wait > 0:
            raise Throttled(
                "login_throttled",
                "too many failed logins: wait before the next one",
                "wait as long as Retry-After says",
                retry_after=math.ceil(wait),
            )
        return Attempt(self._counters, places)

    @property
    def entries(self) -> int:
        return self._counters.entries
