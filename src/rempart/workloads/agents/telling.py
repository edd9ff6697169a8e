"""What agents tell of themselves goes into the server's record, marked as theirs: an agent can't speak for another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Severity

from .messages import Told

MAX_EVENTS = 1000
TYPES = frozenset((EventType.SVID_ISSUED, EventType.SVID_REFUSED, EventType.BUNDLE_REFUSED, EventType.ALARM))
_ID = re.compile(r"evt_[0-9a-z]{26}")
_SEVERITIES = frozenset(Severity)


class Telling:
    """`record` keeps an event once, however often it is told, and returns when it is durable."""

    def __init__(self, record: Callable[[Event], Awaitable[None]]) -> None:
        self._record = record

    async def keep(self, agent: str, told: list[Told]) -> None:
        """Raises BadInput `bad_event`, and then nothing was kept; Unavailable."""
        if len(told) > MAX_EVENTS:
            raise BadInput("bad_event", f"more than {MAX_EVENTS} events at once")
        events = [_event(agent, one) for one in told]
        await asyncio.gather(*(self._record(event) for event in events))


def _event(agent: str, told: Told) -> Event:
    if not _ID.fullmatch(told.id) or told.type not in TYPES or told.severity not in _SEVERITIES:
        raise BadInput("bad_event", f"an agent can't record {told.type[:50]!r} under {told.id[:50]!r}")
    if not 0 <= told.at < 253_402_300_800:  # the year 10000
        raise BadInput("bad_event", "`at` is not in seconds since the epoch")
    return Event(
        id=told.id,
        type=EventType(told.type),
        at=told.at,
        success=told.success,
        severity=Severity(told.severity),
        reason=told.reason[:1000],
        workload=told.workload[:2048] or None,
        service="agent",
        details={**told.details, "agent": agent},
    )
