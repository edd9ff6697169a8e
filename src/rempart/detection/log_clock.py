"""What time it is in the log: nobody but Rempart's own processes moves this clock.

An application says itself when its events happened, and so could a compromised one: far in the future, to have every
window forgotten; or long ago, to fall out of all of them. Such a time is taken as the nearest believable one. A
process of Rempart's own is believed; when its clock goes back, the log's clock goes back with it, and what its journal
delivers late leaves the clock alone. One of another host (PROCESS@AGENT) may be late by as long as that was cut off,
but never ahead, and leaves the clock alone: that host's clock may be wrong, or the host taken over.
"""

from __future__ import annotations

from typing import Any

from rempart.protocols.event_catalogue import is_told

from .groups import LATE

SOON = 60.0  # seconds that an application's clock may be ahead


class LogClock:
    """`now` in seconds since the epoch, of events and not of the machine: a replay sees the same."""

    def __init__(self) -> None:
        self.now = 0.0
        self.implausible = 0
        self._last: dict[str, float] = {}  # by source; there are as many as Rempart has processes

    def read(self, kind: str, source: str, at: float) -> float:
        """The time at which an event of that type and source counts; moves the clock."""
        if is_told(kind, source):
            if not self.now:
                return at
            believed = min(max(at, self.now - LATE), self.now + SOON)
            if believed != at:
                self.implausible += 1
            return believed
        if "@" in source:
            self.implausible += at > self.now + SOON
            return min(at, self.now + SOON) if self.now else at
        last = self._last.get(source, at)
        self._last[source] = at
        if at > self.now or at < last - LATE:
            self.now = at
        return at

    def snapshot(self) -> Any:
        return [self.now, self._last]

    def restore(self, content: Any) -> None:
        self.now, self._last = float(content[0]), dict(content[1])
