"""What agents tell of themselves goes into the server's record, marked as theirs: an agent can't speak for another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Severity

from .host_record import believed
from .messages import Told
from .model import source_of

MAX_EVENTS = 1000
TYPES = frozenset((EventType.SVID_ISSUED, EventType.SVID_REFUSED, EventType.BUNDLE_REFUSED, EventType.ALARM))
_ID = re.compile(r"evt_[0-9a-z]{26}")
_SEVERITIES = frozenset(Severity)


class Telling:
    """`record` keeps an event once under the name of its source, however often it is told, and returns when it is
    durable."""

    def __init__(self, record: Callable[[Event, str], Awaitable[None]], clock: Clock) -> None:
        self._record, self._clock = record, clock

    async def keep(self, agent: str, told: list[Told]) -> None:
        """Raises BadInput `bad_event`, and then nothing was kept; Unavailable."""
        if len(told) > MAX_EVENTS:
            raise BadInput("bad_event", f"more than {MAX_EVENTS} events at once")
        now, source = self._clock.now(), source_of("agent", agent)
        events = [_event(agent, one, now) for one in told]
        await asyncio.gather(*(self._record(event, source) for event in events))


def _event(agent: str, told: Told, now: float) -> Event:
    if not _ID.fullmatch(told.id) or told.type not in TYPES or told.severity not in _SEVERITIES:
        raise BadInput("bad_event", f"an agent can't record {told.type[:50]!r} under {told.id[:50]!r}")
    if not 0 <= told.at < 253_402_300_800:  # the year 10000
        raise BadInput("bad_event", "`at` is not in seconds since the epoch")
    details = dict(told.details)
    return Event(
        id=told.id,
        type=EventType(told.type),
        at=believed(told.at, now, details),
        success=told.success,
        severity=Severity(told.severity),
        reason=told.reason[:1000],
        workload=told.workload[:2048] or None,
        service="agent",
        details={**details, "agent": agent},
    )
