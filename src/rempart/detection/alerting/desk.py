"""The desk where alerts arrive: reads them off the log, keeps the incidents, hands notices to the channels.

State is one file, replaced atomically, with a checksum: how far the log was read, the incidents, and what waits for
each channel, saved together before anything is sent. So no alert is forgotten by a crash, and none tells twice what was
told, but for the one notice that was on its way. A damaged file is left aside and the log is read again from its
beginning: alerts older than a day wake nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rempart.detection.model import Alert
from rempart.detection.ports import EventFeed
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, NotFound, RempartError
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id

from .delivery import Delivery
from .incidents import Incidents, Pace
from .model import Incident, Notice, Silence, Standing
from .ports import Channel
from .reading import read

_log = logging.getLogger("rempart.notifier")
CHANNEL_RULE = "alerting.channel"
_WAIT = 1.0
_AFTER_FAILURE = 1.0
_SAVE_EVERY = 2.0  # seconds, where nothing but the cursor moved: to read that again after a crash changes nothing
LONGEST_SILENCE = 30 * 86_400.0


class _State(msgspec.Struct):
    cursor: int = 0
    incidents: Incidents = msgspec.field(default_factory=Incidents)
    waiting: dict[str, list[Notice]] = {}


class Desk:
    """One task follows the log, one each delivers. `channels`: name → (channel, the least severity that it is told)."""

    def __init__(
        self,
        feed: EventFeed,
        channels: Mapping[str, tuple[Channel, Severity]],
        pace: Pace,
        path: Path,
        clock: Clock,
        recorder: Recorder,
    ) -> None:
        self._feed, self._pace, self._path, self._clock, self._recorder = feed, pace, path, clock, recorder
        self._state = self._load()
        self.size = 0
        self.unsaved = False
        self._save_cursor_at = 0.0
        self.deliveries = [
            Delivery(name, channel, least, self._state.waiting.setdefault(name, []), self._dirty, self._channel_told)
            for name, (channel, least) in channels.items()
        ]
        for name in set(self._state.waiting) - set(channels):  # a channel that is no more
            del self._state.waiting[name]

    @property
    def cursor(self) -> int:
        return self._state.cursor

    @property
    def incidents(self) -> Incidents:
        return self._state.incidents

    # -- following ------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Until cancelled; what fails is tried again."""
        while True:
            try:
                await self.step()
            except (OSError, RempartError) as error:
                _log.error("alerts wait: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)

    async def step(self) -> None:
        """Take what is new, then send what is due. Raises Unavailable, OSError."""
        state = self._state
        page = await self._feed.read(state.cursor, _WAIT)
        self.size = page.size
        if page.size < state.cursor:  # another log: the detector raises the alarm for that
            state.cursor = 0
            return
        now = self._clock.now()
        for payload in page.events:
            alert, over = read(bytes(payload))
            if alert is not None:
                state.incidents.take(alert, now, self._pace)
            if over is not None:
                state.incidents.resolve_matching(*over, now, self._pace)
            self.unsaved |= alert is not None or over is not None
            state.cursor += 1
        if page.events and self._clock.monotonic() >= self._save_cursor_at:
            self.unsaved = True
        self._give_out(now)

    def _give_out(self, now: float) -> None:
        notices = self._state.incidents.tick(now, self._pace)
        for notice in notices:
            for delivery in self.deliveries:
                delivery.put(notice)
        if notices or self.unsaved:
            self.save()

    def _dirty(self) -> None:
        self.unsaved = True

    def save(self) -> None:
        """Raises OSError: then the former file holds."""
        body = msgspec.json.encode(self._state)
        replace_file(self._path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        self.unsaved = False
        self._save_cursor_at = self._clock.monotonic() + _SAVE_EVERY

    def _load(self) -> _State:
        try:
            digest, _, body = self._path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise BadInput("bad_state", "its checksum is wrong")
            return msgspec.json.decode(body, type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, BadInput) as error:
            _log.error("%s is left aside, the log is read from its beginning: %s", self._path, error)
            return _State()

    async def _channel_told(self, name: str, why: str) -> None:
        """A channel that fails is an incident itself, told by the others; and an event."""
        now, about = self._clock.now(), (f"channel:{name}",)
        if why:
            alert = Alert(
                id=new_id("alr"),
                rule=CHANNEL_RULE,
                title="An alert channel fails",
                severity=Severity.HIGH,
                first=now,
                last=now,
                reason=f"{name}: {why}"[:300],
                evidence=(),
                principals=about,
            )
            self._state.incidents.take(alert, now, self._pace)
        else:
            self._state.incidents.resolve_matching(CHANNEL_RULE, about, now, self._pace)
        self.unsaved = True
        kind = EventType.CHANNEL_FAILED if why else EventType.CHANNEL_RECOVERED
        try:
            await self._recorder.record(
                Event(
                    type=kind,
                    at=now,
                    success=not why,
                    severity=Severity.HIGH if why else Severity.INFO,
                    reason=f"{name}: {why}"[:300] if why else f"{name} takes alerts again",
                    details={"channel": name},
                )
            )
        except RempartError as error:
            _log.error("that a channel failed can't be recorded: %s", error)

    # -- what people do -------------------------------------------------------------------------------------------

    async def acknowledge(self, id: str, operator: str, note: str) -> Incident:
        return await self._change(id, operator, note, "acknowledge")

    async def resolve(self, id: str, operator: str, note: str) -> Incident:
        return await self._change(id, operator, note, "resolve")

    async def _change(self, id: str, operator: str, note: str, verb: str) -> Incident:
        """Recorded durably, then done. Raises NotFound, Unavailable."""
        before = self.incidents.find(id).standing
        after = Standing.ACKNOWLEDGED if verb == "acknowledge" else Standing.RESOLVED
        details = {"incident": id, "note": note}
        await self._record(operator, f"{verb}d", before.value, after.value, details)
        now = self._clock.now()
        if verb == "acknowledge":
            incident = self.incidents.acknowledge(id, operator, note, now)
        else:
            incident = self.incidents.resolve(id, operator, note, now, self._pace)
        self.save()
        return incident

    async def silence(self, operator: str, why: str, seconds: float, rule: str = "", principal: str = "") -> Silence:
        """Raises BadInput `bad_silence`: one that would match all, or last for more than 30 days."""
        if not rule and not principal:
            raise BadInput("bad_silence", "a silence needs a rule or a principal", "name what is to be silent")
        if not 1 <= seconds <= LONGEST_SILENCE:
            raise BadInput("bad_silence", "a silence lasts from a second to 30 days", "choose a time in between")
        now = self._clock.now()
        silence = Silence(id=new_id("sil"), until=now + seconds, by=operator, why=why, rule=rule, principal=principal)
        await self._record(
            operator, "silenced", None, msgspec.to_builtins(silence), {"silence": silence.id, "note": why}
        )
        self.incidents.silence(silence, now)
        self.save()
        return silence

    async def unsilence(self, id: str, operator: str) -> Silence:
        if id not in self.incidents.silences:
            raise NotFound("no_such_silence", f"there is no silence {id[:64]}", "see `rempart alert silences`")
        await self._record(operator, "silence lifted", id, None, {"silence": id})
        silence = self.incidents.unsilence(id, self._clock.now())
        self.save()
        return silence

    def test(self, name: str) -> Notice:
        """A notice that says that it is a test. Raises NotFound `no_such_channel`."""
        delivery = next((one for one in self.deliveries if one.name == name), None)
        if delivery is None:
            raise NotFound("no_such_channel", f"there is no channel {name[:64]}", "see `rempart alert channels`")
        now = self._clock.now()
        notice = Notice(
            id=new_id("ntc"),
            kind="test",
            at=now,
            rule="alerting.test",
            title="This is a test of an alert channel",
            severity=Severity.INFO,
            incidents=(),
        )
        delivery.put(notice)
        return notice

    async def _record(self, operator: str, what: str, before: Any, after: Any, details: Mapping[str, Any]) -> None:
        event = Event(
            type=EventType.ALERT_CHANGED,
            at=self._clock.now(),
            success=True,
            operator=operator,
            reason=what,
            before={"value": before},
            after={"value": after},
            details=details,
        )
        await self._recorder.record(event)
