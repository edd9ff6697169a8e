"""Counting failures, in memory, for one process. `backends/redis_throttle.py` counts alike for all instances.

State is bounded: an entry is forgotten once it has nothing to remember, else the longest untouched one goes first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rempart.kernel.clock import Clock

MAX_ENTRIES = 32_768  # per kind of counter, about 150 bytes each


@dataclass(frozen=True)
class Allowance:
    """`free` failures cost nothing, the next `first` seconds, then twice as long each, at most `longest`.

    One failure is forgiven every `forgiven_after` seconds. `at_once` attempts may run side by side.
    """

    kind: str
    free: int
    first: float
    longest: float
    forgiven_after: float
    at_once: int


@dataclass(frozen=True, slots=True)
class Place:
    """What an attempt is counted by. A success wipes its failures out where it is the attempt's `own`."""

    allowance: Allowance
    key: str
    own: bool


class Counters(Protocol):
    async def start(self, places: Sequence[Place]) -> float:
        """0.0, and the attempt runs in all places; else the seconds until it may, and nothing is changed.

        Raises Unavailable `store_unavailable`.
        """

    async def finish(self, places: Sequence[Place], *, failed: bool, succeeded: bool) -> None:
        """Once for each that started; neither: it was never judged. Raises Unavailable `store_unavailable`."""

    @property
    def entries(self) -> int:
        """How many places are remembered by this process."""


@dataclass(slots=True)
class _Entry:
    failures: float = 0.0
    updated: float = 0.0
    blocked_until: float = 0.0
    running: int = 0


class LocalCounters:
    """Use it from one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, OrderedDict[str, _Entry]] = {}

    async def start(self, places: Sequence[Place]) -> float:
        now = self._clock.monotonic()
        wait = max((self._wait(place, now) for place in places), default=0.0)
        if wait == 0.0:
            for place in places:
                self._entry(place, now).running += 1
                self._entries[place.allowance.kind].move_to_end(place.key)
        return wait

    async def finish(self, places: Sequence[Place], *, failed: bool, succeeded: bool) -> None:
        now = self._clock.monotonic()
        for place in places:
            entry, allowance = self._entry(place, now), place.allowance
            entry.running = max(0, entry.running - 1)
            if failed:
                entry.failures += 1
                beyond = math.ceil(entry.failures) - allowance.free
                if beyond > 0:
                    pause = min(allowance.longest, allowance.first * 2.0 ** min(beyond - 1, 30))
                    entry.blocked_until = max(entry.blocked_until, now + pause)
            elif succeeded and place.own:
                entry.failures = entry.blocked_until = 0.0
            if entry.failures <= 0 and entry.running == 0:
                del self._entries[allowance.kind][place.key]

    @property
    def entries(self) -> int:
        return sum(map(len, self._entries.values()))

    def _entry(self, place: Place, now: float) -> _Entry:
        entries = self._entries.setdefault(place.allowance.kind, OrderedDict())
        entry = entries.get(place.key)
        if entry is None:
            entry = entries[place.key] = _Entry(updated=now)
            if len(entries) > MAX_ENTRIES:
                entries.popitem(last=False)
        entry.failures = max(0.0, entry.failures - (now - entry.updated) / place.allowance.forgiven_after)
        entry.updated = now
        return entry

    def _wait(self, place: Place, now: float) -> float:
        allowance = place.allowance
        if place.key not in self._entries.get(allowance.kind, ()):
            return 0.0
        entry = self._entry(place, now)
        if entry.blocked_until > now:
            return entry.blocked_until - now
        left = max(1, allowance.free - math.ceil(entry.failures))
        return 1.0 if entry.running >= (allowance.at_once if entry.failures < 1 else left) else 0.0
