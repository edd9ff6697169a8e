"""The desk over crashes, and channels that fail."""

import asyncio
import json

import msgspec
import pytest

from rempart.audit.feed import Page
from rempart.audit.merkle import leaf_hash
from rempart.detection.alerting import delivery
from rempart.detection.alerting.desk import CHANNEL_RULE, Desk
from rempart.detection.alerting.incidents import Pace
from rempart.detection.alerting.model import Standing
from rempart.detection.alerting.reading import read
from rempart.detection.following import as_event
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, NotFound, Unavailable
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import encode

from .test_incidents import alert

pytestmark = pytest.mark.anyio
PACE = Pace(gather=0.0, again=0.0, remind=1e6, quiet=1e6)


class Log:
    """Implements `audit.ports.Feed`."""

    def __init__(self):
        self.events = []

    def add(self, event, source="detector"):
        self.events.append(encode(event, source))

    async def read(self, start, wait):
        await asyncio.sleep(0)
        found = self.events[start:]
        ids = [leaf_hash(one).hex() for one in found]
        return Page(start=start, size=len(self.events), ids=ids, events=[msgspec.Raw(one) for one in found])


class Kept:
    """Implements `kernel.event.Recorder`."""

    def __init__(self):
        self.events = []

    async def record(self, event):
        self.events.append(event)


class Line:
    """A channel. Implements `detection.alerting.ports.Channel`."""

    def __init__(self):
        self.taken, self.works = [], True
        self.trouble = Unavailable("channel_unavailable", "the line is cut")

    async def send(self, notice):
        if not self.works:
            raise self.trouble
        self.taken.append(notice)

    async def close(self):
        return


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.02)


def now(number, **given):
    return alert(number, at=SystemClock().now(), **given)


def desk_on(log, lines, path, kept=None, least=Severity.MEDIUM):
    channels = {name: (line, least) for name, line in lines.items()}
    return Desk(log, channels, PACE, path, SystemClock(), kept or Kept())


class Running:
    def __init__(self, desk):
        self.desk = desk

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(one.run()) for one in self.desk.deliveries]
        return self.desk

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def turns(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not happen")


async def test_an_alert_of_the_detector_is_told(tmp_path):
    log, line = Log(), Line()
    log.add(as_event(now(1)))
    async with Running(desk_on(log, {"a": line}, tmp_path / "s")) as desk:
        await desk.step()
        await turns(lambda: line.taken)
    assert [one.id for one in line.taken[0].incidents] == ["alr_1"]


@pytest.mark.parametrize("source", ["wallet", "people", "operator"])
async def test_nobody_else_can_raise_an_alert(tmp_path, source):
    log, line = Log(), Line()
    log.add(as_event(now(1)), source)
    desk = desk_on(log, {"a": line}, tmp_path / "s")
    await desk.step()
    assert not desk.incidents.incidents


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(tmp_path):
    log, line = Log(), Line()
    line.works = False
    log.add(as_event(now(1)))
    async with Running(desk_on(log, {"a": line}, tmp_path / "s")) as desk:
        await desk.step()
        await turns(lambda: desk.deliveries[0].failures)
    line.works = True
    log.add(as_event(now(2, about="person:usr_2")))
    async with Running(desk_on(log, {"a": line}, tmp_path / "s")) as desk:
        await desk.step()
        await turns(lambda: len(line.taken) >= 2)
        await desk.step()
    told = [one.id for notice in line.taken for one in notice.incidents if one.rule != CHANNEL_RULE]
    assert told == ["alr_1", "alr_2"]
    fresh = desk_on(log, {"a": line}, tmp_path / "s")
    await fresh.step()
    assert fresh.cursor == 2
    assert not fresh.deliveries[0].waiting


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (Unavailable("channel_unavailable", "the line is cut"), "the line is cut"),
        (ConnectionResetError(), "no answer"),
        (RecursionError(), "RecursionError"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "no text"), "UnicodeDecodeError"),
    ],
)
async def test_one_channel_that_fails_stops_no_other_and_is_told_by_them(tmp_path, trouble, why):
    log, cut, good, kept = Log(), Line(), Line(), Kept()
    cut.works, cut.trouble = False, trouble
    log.add(as_event(now(1)))
    async with Running(desk_on(log, {"cut": cut, "good": good}, tmp_path / "s", kept)) as desk:
        await desk.step()
        await turns(lambda: why in desk.deliveries[0].failing)
        await desk.step()
        await turns(lambda: len(good.taken) == 2)
        assert good.taken[1].incidents[0].principals == ("channel:cut",)
        cut.works = True
        await turns(lambda: not desk.deliveries[0].failing)
        await desk.step()
        standing = [one.standing for one in desk.incidents.incidents.values() if one.rule == CHANNEL_RULE]
        assert standing == [Standing.RESOLVED]
    assert [one.type for one in kept.events] == [EventType.CHANNEL_FAILED, EventType.CHANNEL_RECOVERED]
    assert cut.taken[0].rule == "spray"


async def test_a_channel_is_told_from_its_severity_on(tmp_path):
    log, line = Log(), Line()
    log.add(as_event(now(1, severity=Severity.MEDIUM)))
    log.add(as_event(now(2, rule="worse", severity=Severity.CRITICAL)))
    async with Running(desk_on(log, {"a": line}, tmp_path / "s", least=Severity.HIGH)) as desk:
        await desk.step()
        await turns(lambda: line.taken)
        assert [one.rule for one in line.taken] == ["worse"]


async def test_a_damaged_state_is_left_aside_and_the_log_read_again(tmp_path):
    log, line = Log(), Line()
    log.add(as_event(now(1)))
    desk = desk_on(log, {"a": line}, tmp_path / "s")
    await desk.step()
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[-5] ^= 1
    (tmp_path / "s").write_bytes(raw)
    again = desk_on(log, {"a": line}, tmp_path / "s")
    assert again.cursor == 0
    await again.step()
    assert "alr_1" in again.incidents.incidents


async def test_too_many_waiting_give_way_and_are_counted(tmp_path):
    line = Line()
    line.works = False
    desk = desk_on(Log(), {"a": line}, tmp_path / "s")
    for _ in range(delivery.MAX_WAITING + 3):
        desk.test("a")
    assert (len(desk.deliveries[0].waiting), desk.deliveries[0].lost) == (delivery.MAX_WAITING, 3)


async def test_every_change_by_somebody_is_recorded_before_it_is_made(tmp_path):
    log, kept = Log(), Kept()
    log.add(as_event(now(1)))
    desk = desk_on(log, {"a": Line()}, tmp_path / "s", kept)
    await desk.step()
    await desk.acknowledge("alr_1", "uid:7", "looking")
    silence = await desk.silence("uid:7", "a drill", 60, rule="spray")
    await desk.unsilence(silence.id, "uid:7")
    await desk.resolve("alr_1", "uid:7", "it was us")
    assert {one.operator for one in kept.events} == {"uid:7"}
    assert [one.reason for one in kept.events] == ["acknowledged", "silenced", "silence lifted", "resolved"]
    assert desk_on(log, {}, tmp_path / "s").incidents.find("alr_1").note == "it was us"
    with pytest.raises(NotFound):
        await desk.acknowledge("alr_none", "uid:7", "")
    with pytest.raises(BadInput):
        await desk.silence("uid:7", "everything", 60)
    with pytest.raises(BadInput):
        await desk.silence("uid:7", "for ever", 1e9, rule="x")


def _event(kind, details, reason="", source="shipper"):
    return encode(
        Event(type=kind, at=1_700_000_000.0, success=False, severity=Severity.HIGH, reason=reason, details=details),
        source,
    )


def test_alarms_and_sinks_are_alerts_too_without_addresses_of_people():
    found, _ = read(_event(EventType.ALARM, {"rule": "watch.log"}, "alice@bank.example did it", "detector"))
    assert (found.rule, found.reason, found.principals) == ("watch.log", "… did it", ("process:detector",))
    found, _ = read(_event(EventType.SINK_FAILED, {"sink": "siem"}, "siem: away"))
    assert (found.rule, found.principals) == ("sink.failed", ("sink:siem",))
    found, over = read(_event(EventType.SINK_RECOVERED, {"sink": "siem"}))
    assert (found, over) == (None, ("sink.failed", ("sink:siem",)))


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b'{"unmapped":{"rempart":{"type":"alert.raised"}}}'])
def test_what_is_no_event_is_passed_over(payload):
    assert read(payload) == (None, None)


def test_an_alert_that_is_none_is_passed_over():
    document = json.loads(encode(as_event(now(1)), "detector"))
    document["unmapped"]["rempart"]["details"]["alert"] = {"id": 7}
    assert read(json.dumps(document).encode()) == (None, None)
