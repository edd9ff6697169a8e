"""Follow the log with the rules: every event once, every alert durable before the cursor goes past its event.

State is one file, replaced atomically: how many events were taken, the last one's leaf hash, and the engine's snapshot.
A crash falls back to the last file and takes the events since then again; the same alerts come out with the same ids,
and the sequencer integrates an event that it has only once. So each alert is in the log exactly once. A state file that
is damaged is left aside and the log is read from its beginning: it costs time, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, Integrity, RempartError
from rempart.kernel.event import Event, EventType, Severity

from .engine import Engine
from .model import Alert
from .ports import AlertRecorder, EventFeed

_log = logging.getLogger("rempart.detector")
_SAVE_EVERY = 2.0  # seconds at least between two snapshots, and a twentieth of the time at most
_SHARE = 20.0
_AFTER_FAILURE = 1.0
_CLOCK_EVERY = 1.0
_DELETED = "deleted-"
_WAIT = 1.0  # seconds for new events; a stop takes as long
CLOCK_JUMP = 5.0  # seconds by which the wall clock may move against the monotonic one within a look


class _State(msgspec.Struct, frozen=True):
    cursor: int
    last: str
    engine: dict[str, Any]


class Follower:
    """One task runs it. `cursor` is how many events of the log were taken."""

    def __init__(self, engine: Engine, feed: EventFeed, recorder: AlertRecorder, state: Path) -> None:
        self.engine = engine
        self.cursor = 0
        self.size = 0
        self.raised = 0
        self._feed, self._recorder, self._path = feed, recorder, state
        self._last = ""
        self._saved_cursor = 0
        self._save_at = 0.0
        self._checked = False
        self.load()

    def load(self) -> None:
        """Go on where the last snapshot was made."""
        try:
            raw = self._path.read_bytes()
            if hashlib.sha256(raw[32:]).digest() != raw[:32]:
                raise BadInput("bad_snapshot", "its checksum is wrong")
            state = msgspec.msgpack.decode(raw[32:], type=_State)
            self.engine.restore(state.engine)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, BadInput) as error:
            _log.error("%s is left aside, the log is read from its beginning: %s", self._path, error)
            self.engine.clear()
            return
        self.cursor, self._last = state.cursor, state.last
        self._saved_cursor = state.cursor

    def save(self) -> None:
        """Raises OSError: then the former file holds."""
        if self.cursor == self._saved_cursor:
            return
        began = time.monotonic()
        body = msgspec.msgpack.encode(_State(self.cursor, self._last, self.engine.snapshot()))
        replace_file(self._path, hashlib.sha256(body).digest() + body)
        self._saved_cursor = self.cursor
        self._save_at = time.monotonic() + max(_SAVE_EVERY, _SHARE * (time.monotonic() - began))

    async def follow(self, stopping: asyncio.Event) -> None:
        """Until `stopping`. What fails is tried again; a log that was rewound or rewritten is an alarm."""
        while not stopping.is_set():
            try:
                await self.step()
            except Integrity as error:
                await self._alarm(error.reason, "watch.log")
                self.cursor, self._last, self._checked = 0, "", True
                self.engine.clear()
            except (OSError, RempartError) as error:
                _log.error("the watch waits: %s", error)
                await _pause(stopping, _AFTER_FAILURE)
        try:
            self.save()
        except OSError as error:
            _log.error("the state could not be saved: %s", error)

    async def step(self) -> int:
        """Take the next events, if there are any within a moment; returns how many.

        Raises Integrity `log_rewound` when the log isn't the one that was read; Unavailable; OSError.
        """
        start = self.cursor - 1 if self.cursor and not self._checked else self.cursor
        page = await self._feed.read(start, _WAIT)
        entries, self.size = [bytes(event) for event in page.events], page.size
        if self.size < self.cursor:
            raise Integrity("log_rewound", f"the log has {self.size} events, {self.cursor} were read")
        if start < self.cursor and entries:
            if page.ids[0] != self._last and not page.ids[0].startswith(_DELETED):
                raise Integrity("log_rewound", f"event {start} of the log is not the one that was read")
            del entries[0]
        self._checked = True
        for payload in entries:
            for alert in await self._judged(payload):
                if alert.severity not in (Severity.INFO, Severity.LOW):
                    await self._raise(alert)
            self.cursor += 1
        if entries:
            self._last = page.ids[-1]
        if self.cursor != self._saved_cursor and time.monotonic() >= self._save_at:
            self.save()
        return len(entries)

    async def _judged(self, payload: bytes) -> list[Alert]:
        """An event that the rules can't digest must not blind the watch: it is passed over, and that is an alarm."""
        try:
            return self.engine.take(payload)
        except Exception as error:  # whatever a rule or an event does
            _log.exception("event %d could not be judged", self.cursor)
            await self._alarm(f"event {self.cursor} could not be judged: {type(error).__name__}", "watch.event")
            return []

    async def _raise(self, alert: Alert) -> None:
        """Until it is durable: nothing else is worth doing meanwhile."""
        while True:
            try:
                await self._recorder.raise_alert(as_event(alert))
                self.raised += 1
                return
            except RempartError as error:
                _log.error("an alert can't be recorded: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)

    async def _alarm(self, why: str, rule: str) -> None:
        _log.critical("%s", why)
        await self._recorder.raise_alert(
            Event(
                type=EventType.ALARM,
                at=time.time(),
                success=False,
                severity=Severity.CRITICAL,
                reason=why,
                details={"rule": rule},
            )
        )

    async def watch_clock(self, stopping: asyncio.Event, offset: Callable[[], float] | None = None) -> None:
        """Record an alarm whenever the wall clock is set. `offset`: wall clock less a clock that nobody sets."""
        read = offset or (lambda: time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
        last = read()
        while not stopping.is_set():
            await _pause(stopping, _CLOCK_EVERY)
            now = read()
            if abs(now - last) > CLOCK_JUMP:
                try:
                    await self._alarm(f"the clock was set by {now - last:+.0f} seconds", "watch.clock")
                except RempartError as error:
                    _log.error("a clock that was set can't be recorded: %s", error)
                    continue
            last = now


def as_event(alert: Alert) -> Event:
    """What the log keeps of an alert: it is found by whom it is about, and has all of the alert in its details."""
    about = dict(principal.split(":", 1) for principal in alert.principals)
    return Event(
        type=EventType.ALERT_RAISED,
        at=time.time(),
        success=False,
        id=alert.id,
        severity=alert.severity,
        reason=alert.reason,
        person=about.get("person"),
        workload=about.get("workload"),
        service=about.get("service"),
        details={"rule": alert.rule, "alert": alert.document()},
    )


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
