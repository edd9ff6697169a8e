"""Every event once, every alert once, whatever crashes when."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.detection.engine import Engine
from rempart.detection.following import Follower, as_event
from rempart.detection.model import Alert
from rempart.detection.ruleset import BUILT_IN, load
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

RULES = load([BUILT_IN])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


class Crash(BaseException):
    """The process is killed here."""


@dataclass
class Page:
    size: int
    ids: list[str]
    events: list[msgspec.Raw]


@dataclass
class Log:
    """A log in memory: the feed, and where alerts go; each id once, as the sequencer takes them."""

    entries: list[bytes] = field(default_factory=list)
    alerts: list[Event] = field(default_factory=list)
    page: int = 7
    crash_in: int = -1
    failing: int = 0

    async def read(self, start: int, wait: float) -> Page:
        if start >= len(self.entries):
            await asyncio.sleep(0)
        found = self.entries[start : start + self.page]
        ids = [hashlib.sha256(b"\0" + one).hexdigest() for one in found]
        return Page(len(self.entries), ids, [msgspec.Raw(one) for one in found])

    async def raise_alert(self, event: Event) -> None:
        if self.crash_in == 0:
            self.crash_in = -1
            raise Crash
        if self.failing:
            self.failing -= 1
            raise Unavailable("journal_unavailable", "no", "wait")
        self.crash_in -= self.crash_in > 0
        if all(known.id != event.id for known in self.alerts):
            self.alerts.append(event)


def reuse(n: int) -> bytes:
    return encode(
        Event(type=EventType.TOKEN_REUSED, at=1e9 + 200 * n, success=False, id=f"evt_{n}", person=f"usr_{n % 5}"),
        "people",
    )


def failure(n: int) -> bytes:
    details = {"account": "eml_a", "network": f"net_{n % 3}"}
    event = Event(type=EventType.LOGIN_FAILED, at=1e9 + 200 * 40 + n, success=False, id=f"evt_f{n}", details=details)
    return encode(event, "people")


STREAM = [reuse(n) for n in range(20)] + [failure(n) for n in range(30)] + [reuse(n) for n in range(41, 45)]


def expected() -> list[str]:
    engine = Engine(RULES)
    return [alert.id for one in STREAM for alert in engine.take(one)]


async def drain(follower: Follower) -> None:
    while follower.cursor < len(STREAM):
        await follower.step()


def test_all_alerts_in_order(tmp_path: Path) -> None:
    log = Log(list(STREAM))
    follower = Follower(Engine(RULES), log, log, tmp_path / "state")
    asyncio.run(drain(follower))
    assert [event.id for event in log.alerts] == expected()
    assert follower.raised == len(expected()) > 20
    assert {event.type for event in log.alerts} == {EventType.ALERT_RAISED}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_killed_anywhere_each_alert_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    state = tmp_path_factory.mktemp("state") / "state"
    log = Log(list(STREAM), page=data.draw(st.integers(1, 60)))
    for _ in range(data.draw(st.integers(1, 5))):
        log.crash_in = data.draw(st.integers(0, 12))
        follower = Follower(Engine(RULES), log, log, state)
        try:
            for _ in range(data.draw(st.integers(1, 20))):
                asyncio.run(follower.step())
            if data.draw(st.booleans()):
                follower.save()
        except Crash:
            pass
    log.crash_in = -1
    asyncio.run(drain(Follower(Engine(RULES), log, log, state)))
    assert [event.id for event in log.alerts] == expected()


def test_a_journal_that_refuses_loses_no_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rempart.detection.following._AFTER_FAILURE", 0.001)
    log = Log(list(STREAM), failing=5)
    asyncio.run(drain(Follower(Engine(RULES), log, log, tmp_path / "state")))
    assert [event.id for event in log.alerts] == expected()


@pytest.mark.parametrize("damage", [b"", b"x" * 10, b"\0" * 500])
def test_a_damaged_state_costs_time_and_nothing_else(tmp_path: Path, damage: bytes) -> None:
    state = tmp_path / "state"
    log = Log(list(STREAM))
    follower = Follower(Engine(RULES), log, log, state)
    asyncio.run(drain(follower))
    follower.save()
    raw = state.read_bytes()
    state.write_bytes(damage or raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    again = Follower(Engine(RULES), log, log, state)
    assert again.cursor == 0
    asyncio.run(drain(again))
    assert [event.id for event in log.alerts] == expected()


async def _until_alarm(follower: Follower, log: Log) -> None:
    stopping = asyncio.Event()
    task = asyncio.create_task(follower.follow(stopping))
    await until(lambda: any(event.type is EventType.ALARM for event in log.alerts))
    stopping.set()
    await task


@pytest.mark.parametrize("how", ["shorter", "other"])
def test_a_log_that_was_rewound_or_replaced_is_an_alarm(tmp_path: Path, how: str) -> None:
    log = Log(list(STREAM))
    follower = Follower(Engine(RULES), log, log, tmp_path / "state")
    asyncio.run(drain(follower))
    follower.save()
    log.entries = log.entries[:10] if how == "shorter" else [*log.entries[:-1], failure(99), failure(98)]
    asyncio.run(_until_alarm(Follower(Engine(RULES), log, log, tmp_path / "state"), log))
    alarm = next(event for event in log.alerts if event.type is EventType.ALARM)
    assert alarm.details == {"rule": "watch.log"}
    (alert,) = Engine(RULES).take(encode(alarm, "detector"))
    assert alert.rule == "audit_gap"


async def _set_clock(follower: Follower, log: Log) -> None:
    stopping = asyncio.Event()
    offsets = iter([100.0, 100.1, 100.2, 3700.2])
    task = asyncio.create_task(follower.watch_clock(stopping, lambda: next(offsets, 3700.2)))
    await until(lambda: bool(log.alerts))
    stopping.set()
    await task


def test_a_clock_that_is_set_is_an_alarm_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rempart.detection.following._CLOCK_EVERY", 0.001)
    log = Log()
    asyncio.run(_set_clock(Follower(Engine(RULES), log, log, tmp_path / "state"), log))
    assert [event.reason for event in log.alerts] == ["the clock was set by +3600 seconds"]
    (alert,) = Engine(RULES).take(encode(log.alerts[0], "detector"))
    assert alert.rule == "clock_jump"


def test_an_alert_as_the_log_keeps_it() -> None:
    (alert,) = Engine(RULES).take(reuse(1))
    event = as_event(alert)
    assert (event.id, event.person, event.details["rule"]) == (alert.id, "usr_1", "refresh_token_reuse")
    assert event.details["alert"]["evidence"] == ("evt_1",)


def test_an_event_that_breaks_the_engine_blinds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(list(STREAM))
    engine = Engine(RULES)
    take = engine.take

    def breaks(payload: bytes) -> list[Alert]:
        if payload == STREAM[3]:
            raise ZeroDivisionError
        return take(payload)

    monkeypatch.setattr(engine, "take", breaks)
    asyncio.run(drain(Follower(engine, log, log, tmp_path / "state")))
    told = [event.reason for event in log.alerts if event.type is EventType.ALARM]
    assert told == ["event 3 could not be judged: ZeroDivisionError"]
    assert len(log.alerts) == len(expected())
