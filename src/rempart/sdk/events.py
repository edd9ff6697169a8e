"""Tell the audit trail what happened: events go to `REMPART_EVENTS` and are durable when the post returns.

An application that must never lose one writes it to an outbox, in the same transaction as the change it tells of,
and lets `relay` post it: at least once, and its id makes it once in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from rempart.kernel.errors import BadInput, RempartError

from .http import Question, SocketTransport, Transport
from .problems import decode
from .workload import Workload

log = logging.getLogger("rempart.sdk.events")


class OutgoingEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Fields as in the audit trail. `type` is `application`, one of `money.…`, or of what `[audit.records]` lets this
    program tell (`delivery.…`, `secrets.…`); `at` in seconds since the epoch.

    `id` must be the same whenever the same fact is posted again. Nothing here may hold a secret.
    """

    id: str
    type: str
    at: float
    success: bool
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    request_id: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = {}


class EventSink(Protocol):
    async def post(self, events: Sequence[OutgoingEvent]) -> None:
        """Return when all are durable; raises RempartError, and then any of them may have been kept."""


class SocketEvents:
    """The sink that Rempart gives: HTTP on a unix socket."""

    def __init__(self, transport: Transport | None = None, *, timeout: float = 10.0) -> None:
        if transport is None:
            address = Workload.from_environment().events
            if address is None:
                raise LookupError("REMPART_EVENTS is not set")
            transport = SocketTransport(address, name="events")
        self._transport = transport
        self._timeout = timeout

    async def post(self, events: Sequence[OutgoingEvent]) -> None:
        body = msgspec.json.encode({"events": list(events)})
        question = Question("POST", "/events", {"content-type": "application/json"}, body)
        answer = await self._transport.send(question, self._timeout)
        if answer.status != 204:
            raise decode(answer.status, answer.headers, answer.body, of="events")

    async def close(self) -> None:
        await self._transport.close()


class Outbox(Protocol):
    """Where an application keeps events until they are posted."""

    async def pending(self, limit: int) -> Sequence[OutgoingEvent]:
        """The oldest first."""

    async def posted(self, ids: Sequence[str]) -> None:
        """Forget these, durably or not: an event posted twice is kept once."""


async def relay(
    outbox: Outbox,
    sink: EventSink,
    wake: asyncio.Event,
    *,
    batch: int = 200,
    idle: float = 5.0,
    longest_wait: float = 5.0,
) -> None:
    """Post what is in the outbox, for ever; looks when `wake` is set and every `idle` seconds. Cancel it to stop.

    While the sink refuses, it tries again with pauses that double up to `longest_wait` seconds; nothing is dropped.
    """
    pause = 0.1
    while True:
        wake.clear()
        try:
            events = await outbox.pending(batch)
            if events:
                await outbox.posted(await _post(sink, events))
            pause = 0.1
        except RempartError as error:
            log.warning("events wait in the outbox: %s", error.reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest_wait)
            continue
        if len(events) < batch:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 that may swallow a cancellation that comes with the wake.
                async with asyncio.timeout(idle):
                    await wake.wait()


async def _post(sink: EventSink, events: Sequence[OutgoingEvent]) -> list[str]:
    """The ids of those that are durable now. One that the sink calls malformed must not hold up the others."""
    try:
        await sink.post(events)
        return [event.id for event in events]
    except BadInput as error:
        if len(events) == 1:
            log.error("the event %s stays in the outbox: %s", events[0].id, error.reason)
            return []
    return [posted for event in events for posted in await _post(sink, [event])]
