"""An agent's journal, told to its server: what is durable here becomes part of the record there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rempart.audit.reader import START, Cursor, JournalReader
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.workloads.agents import messages
from rempart.workloads.agents.messages import Recorded, Told, ToldAll
from rempart.workloads.ports import ServerConnection

Tell = Callable[[Sequence[bytes]], Awaitable[None]]
TOGETHER = 100
"""Records. More are no faster, and both sides hold them several times over while they are told."""
MAX_BYTES = messages.MAX_REQUEST // 2
TELL_WITHIN = 20.0
_LOOK = 0.5
_RETRY = (1.0, 15.0)
_REFUSED = 60.0
_NEVER = frozenset(("bad_event", "bad_request", "event_too_large", "foreign_service", "request_too_large"))
"""What a server says of events that it will not take tomorrow either."""
MAX_ASIDE = 16 << 20
_HOISTED = ("rule", "policy_version", "pep", "method", "path", "status", "code")


class JournalTelling:
    """What was told is remembered in the file `remembered`; killed in between, some of it is told twice, and kept
    once. `tell` returns when it is durable over there; `alarm` records that something was missing, damaged or refused.

    One event that the server refuses holds up no others: it is set aside beside `remembered`, under `.refused`, as long
    as MAX_ASIDE bytes have room, and an alarm says so. Who could write it could else stop the record of the host.
    """

    def __init__(self, journal: Path, remembered: Path, tell: Tell, alarm: Callable[[str], Awaitable[None]]) -> None:
        self._remembered, self._journal, self._alarm = remembered, journal, alarm
        self._tell = tell
        self._failing = False
        self._aside = remembered.with_suffix(".refused")
        self._refused: list[tuple[bytes, RempartError]] = []
        self._cursor = START
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._cursor = msgspec.json.decode(self._remembered.read_bytes(), type=Cursor)
        self._reader = JournalReader(journal, self._cursor)

    async def keep_telling(self) -> None:
        """For ever; while the server is away, the journal grows."""
        wait = _RETRY[0]
        while True:
            try:
                more = await self.tell_some()
                wait, self._failing = _RETRY[0], False
            except (OSError, RempartError) as error:
                refused = isinstance(error, RempartError) and not isinstance(error, Unavailable)
                if refused:
                    wait = _REFUSED  # it will say the same for a while: an agent that was banned
                if not self._failing:
                    print(f"the events of {self._journal.name} wait: {error}", file=sys.stderr, flush=True)
                    if refused:
                        with contextlib.suppress(RempartError):
                            await self._alarm(f"the server does not take the events of {self._journal.name}: {error}")
                self._failing = True
                self._reader.rewind(self._cursor)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                wait = min(wait * 2, max(wait, _RETRY[1]))
                continue
            if not more:
                await asyncio.sleep(_LOOK)

    async def tell_some(self) -> bool:
        """True while there may be more. Raises as `ServerConnection.ask`, and OSError."""
        reading = self._reader.read(TOGETHER)
        self._refused = []
        waiting: list[bytes] = []
        size = 0
        for _, payload in reading.records:
            if size + len(payload) > MAX_BYTES:
                await self._tell_most(waiting)
                waiting, size = [], 0
            waiting.append(payload)
            size += len(payload)
        if waiting:
            await self._tell_most(waiting)
        if self._reader.cursor != self._cursor:
            if self._refused:
                reading.trouble.append(await asyncio.to_thread(self._set_aside))
            for trouble in reading.trouble:
                await self._alarm(trouble)
            self._cursor = self._reader.cursor
            await asyncio.to_thread(replace_file, self._remembered, msgspec.json.encode(self._cursor))
            for number in reading.damaged:
                self._reader.keep_damaged(number)
            self._reader.delete_integrated(self._cursor)
        return len(reading.records) >= TOGETHER

    async def _tell_most(self, payloads: Sequence[bytes]) -> None:
        """All but those that the server refuses for what they are."""
        try:
            await self._tell(payloads)
        except RempartError as error:
            if error.code not in _NEVER:
                raise
            if len(payloads) == 1:
                self._refused.append((payloads[0], error))
                return
            half = len(payloads) // 2
            await self._tell_most(payloads[:half])
            await self._tell_most(payloads[half:])

    def _set_aside(self) -> str:
        """Durable; what an alarm says of it. Raises OSError."""
        payload, error = self._refused[0]
        with self._aside.open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            for refused, _ in self._refused:
                if file.tell() + len(refused) < MAX_ASIDE:
                    file.write(refused + b"\n")
            file.flush()
            os.fdatasync(file.fileno())
        digest = hashlib.sha256(payload).hexdigest()
        what = f"{len(self._refused)} events of the journal {self._journal.name} were refused by the server"
        return f"{what}: {error.code}: {error.reason[:200]} (SHA-256 {digest}; kept in {self._aside.name})"

    @property
    def backlog_bytes(self) -> int:
        """Of whole segments behind what was told."""
        return self._reader.backlog_bytes()

    def close(self) -> None:
        self._reader.close()


def own_events(server: ServerConnection) -> Tell:
    """Of an agent that is alone on its host."""

    async def tell(payloads: Sequence[bytes]) -> None:
        events = [told for payload in payloads if (told := _told(payload)) is not None]
        if events:
            await server.ask("POST", "/v1/events", messages.encode(ToldAll(events)), within_s=TELL_WITHIN)

    return tell


def host_events(server: ServerConnection, source: str) -> Tell:
    """Of the process `source` of a host with services: as they were recorded."""

    async def tell(payloads: Sequence[bytes]) -> None:
        recorded = Recorded(source, [msgspec.Raw(payload) for payload in payloads])
        await server.ask("POST", "/v1/record", messages.encode(recorded), within_s=TELL_WITHIN)

    return tell


def alarm_in(journal: Recorder, clock: Clock, **details: str) -> Callable[[str], Awaitable[None]]:
    async def alarm(reason: str) -> None:
        what, how = EventType.ALARM, Severity.HIGH
        event = Event(type=what, at=clock.now(), success=False, severity=how, reason=reason, details=details)
        await journal.record(event)

    return alarm


def gap_in(journal: Recorder, clock: Clock) -> Callable[[str], Awaitable[None]]:
    """The alarm about a journal, by which the rule `audit_gap` knows it."""
    return alarm_in(journal, clock, rule="audit.journal_integrity")


def _told(payload: bytes) -> Told | None:
    """Of what `protocols.ocsf.encode` wrote, its own part."""
    try:
        own: dict[str, Any] = msgspec.json.decode(payload)["unmapped"]["rempart"]
        details = {**own.get("details", {}), **{name: own[name] for name in _HOISTED if name in own}}
        return Told(
            id=own["id"],
            type=own["type"],
            at=own["at"] / 1000,
            success=own["success"],
            severity=own["severity"],
            reason=own.get("reason", ""),
            workload=own.get("workload", ""),
            details=details,
        )
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
