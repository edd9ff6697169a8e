"""Record refusals without letting who is refused write the log full.

The first refusal of a kind is recorded at once; those that follow within the window are counted, and the count is
recorded when it ends. Kinds are told apart by who is refused (a uid, an address) and code, and there are at most
`MAX_KINDS` at a time: beyond, all share one. So one event per window and kind, however often somebody knocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError
from rempart.kernel.event import Event, EventType, Recorder, Severity

WINDOW = 10.0
MAX_KINDS = 256


@dataclass
class _Window:
    ends_at: float
    description: Mapping[str, Any]
    count: int = 0


class Refusals:
    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        window_s: float = WINDOW,
        *,
        event_type: EventType = EventType.SVID_REFUSED,
    ) -> None:
        self._type = event_type
        self._recorder = recorder
        self._clock = clock
        self._window = window_s
        self._open: dict[tuple[int | str, str], _Window] = {}
        self.total = 0

    async def refused(self, who: int | str, error: RempartError, description: Mapping[str, Any]) -> None:
        """Never raises: a refusal stands whether or not it can be recorded."""
        self.total += 1
        key: tuple[int | str, str] = (who, error.code)
        if key not in self._open and len(self._open) >= MAX_KINDS:
            key = (-1, "")
        window = self._open.get(key)
        now = self._clock.monotonic()
        if window is not None and now < window.ends_at:
            window.count += 1
            return
        repeated = window.count if window else 0
        self._open[key] = _Window(now + self._window, dict(description))
        await self._record(error.code, error.reason, description, repeated)

    async def flush(self) -> None:
        """Record the counts of windows that have ended; call it now and then, and with every window open at the end."""
        now = self._clock.monotonic()
        for key, window in list(self._open.items()):
            if now >= window.ends_at:
                del self._open[key]
                if window.count:
                    reason = f"refused {window.count} more times"
                    await self._record(key[1] or "several", reason, window.description, window.count)

    async def keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(self._window)
            await self.flush()

    async def _record(self, code: str, reason: str, description: Mapping[str, Any], repeated: int) -> None:
        event = Event(
            type=self._type,
            at=self._clock.now(),
            success=False,
            severity=Severity.MEDIUM,
            reason=reason,
            service="identity",
            workload=description.get("agent"),
            details={"code": code, "repeated": repeated, **description},
        )
        try:
            await self._recorder.record(event)
        except RempartError:
            return  # the journal is down: nothing is granted either
