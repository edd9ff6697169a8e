"""An agent tells its journals in order, everything once it can, and goes on where it was; what its server refuses for
what it is holds up nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support_audit import journaled

from rempart.audit.journal import Journal
from rempart.audit.segment import segment_numbers, segment_path
from rempart.detection.engine import Engine
from rempart.detection.ruleset import BUILT_IN, load
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Denied, RempartError, Unavailable
from rempart.kernel.event import Event
from rempart.protocols.ocsf import encode
from rempart.servers import agent_events
from rempart.servers.agent_events import JournalTelling, gap_in, own_events
from rempart.workloads.agents.host_record import read_recorded
from rempart.workloads.agents.messages import ToldAll, read
from rempart.workloads.agents.telling import Telling


class Server:
    """Keeps what it was told; `refusal` is what it says instead."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.batches: list[int] = []
        self.refusal: RempartError | None = None

    async def tell(self, payloads: Sequence[bytes]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.told += payloads
        self.batches.append(len(payloads))


class Host:
    """One journal, and who tells it; `telling` as after a start."""

    def __init__(self, directory: Path, segment_bytes: int = 1 << 16) -> None:
        self.server, self.alarms, self._directory = Server(), list[str](), directory
        self.journal = Journal(directory / "pdp", "pdp", segment_bytes=segment_bytes)

    def write(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.journal.append(payload)
        self.journal.commit()

    def telling(self) -> JournalTelling:
        return JournalTelling(self._directory / "pdp", self._directory / "pdp.told", self.server.tell, self._alarm)

    async def _alarm(self, reason: str) -> None:
        self.alarms.append(reason)


def all_told(telling: JournalTelling) -> None:
    async def tell() -> None:
        while await telling.tell_some():
            pass

    asyncio.run(tell())


def events(first: int, count: int, size: int = 20) -> list[bytes]:
    return [b"%0*d" % (size, number) for number in range(first, first + count)]


def test_everything_is_told_once_in_order_and_a_new_start_goes_on_from_there(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write(*events(0, 1200))
    telling = host.telling()
    all_told(telling)
    telling.close()
    host.write(*events(1200, 5))
    again = host.telling()
    all_told(again)
    again.close()
    assert host.server.told == events(0, 1205)
    assert host.alarms == []
    host.journal.close()


def test_a_message_stays_within_what_the_server_takes(tmp_path: Path) -> None:
    host = Host(tmp_path, segment_bytes=1 << 20)
    host.write(*events(0, 40, size=60_000))
    telling = host.telling()
    all_told(telling)
    telling.close()
    assert host.server.told == events(0, 40, size=60_000)
    assert max(host.server.batches) * 60_000 <= agent_events.MAX_BYTES
    host.journal.close()


@pytest.mark.parametrize(
    ("refusal", "alarms"), [(Unavailable("server_away", "away"), 0), (Denied("agent_banned", "banned"), 1)]
)
def test_what_is_not_taken_is_told_again_and_nothing_that_came_after_it_before(
    tmp_path: Path,
    refusal: RempartError,
    alarms: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(agent_events, "_RETRY", (0.001, 0.001))
    monkeypatch.setattr(agent_events, "_REFUSED", 0.001)
    host = Host(tmp_path)
    host.write(*events(0, 3))
    host.server.refusal = refusal

    async def scenario() -> None:
        telling = host.telling()
        task = asyncio.create_task(telling.keep_telling())
        async with asyncio.timeout(60):
            while "wait" not in capsys.readouterr().err:
                await asyncio.sleep(0.005)
            host.write(*events(3, 3))
            host.server.refusal = None
            while len(host.server.told) < 6:
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        telling.close()

    asyncio.run(scenario())
    assert host.server.told == events(0, 6)
    assert len(host.alarms) == alarms
    host.journal.close()


def test_killed_before_it_could_remember_it_tells_again(tmp_path: Path) -> None:
    """The server keeps an id once."""
    host = Host(tmp_path)
    host.write(*events(0, 3))
    first = host.telling()
    all_told(first)
    first.close()
    (tmp_path / "pdp.told").unlink()
    second = host.telling()
    all_told(second)
    second.close()
    assert host.server.told == events(0, 3) * 2
    host.journal.close()


def test_what_was_taken_from_a_journal_is_an_alarm_and_the_rest_is_told(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.write(*events(0, 3))
    telling = host.telling()
    all_told(telling)
    for number in range(8):  # several segments
        host.write(*events(3 + number * 100, 100, size=200))
    numbers = segment_numbers(tmp_path / "pdp")
    assert len(numbers) > 2
    segment_path(tmp_path / "pdp", numbers[1]).unlink()
    all_told(telling)
    telling.close()
    assert host.alarms
    assert host.server.told[-1] == events(802, 1, size=200)[0]
    host.journal.close()


def test_the_rule_about_gaps_knows_one_of_another_host(tmp_path: Path) -> None:
    """From the agent's journal to the server's record."""
    journal = Journal(tmp_path / "j", "host-agent")
    asyncio.run(gap_in(journal, ManualClock())("3 records of the journal pdp are missing"))
    journal.close()
    agent = "spiffe://bank.example/rempart/agent/join_token/host-b"
    (event,) = read_recorded(agent, frozenset(), "host-agent", journaled(tmp_path / "j"), ManualClock().now())
    own = json.loads(encode(event, "host-agent@join_token/host-b"))["unmapped"]["rempart"]
    engine = Engine(load([BUILT_IN]))
    assert "audit_gap" in [alert.rule for alert in engine.take_own(own)]


def test_and_one_of_an_agent_without_services(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "agent")
    asyncio.run(gap_in(journal, ManualClock())("3 records of the journal are missing"))
    journal.close()
    kept: list[bytes] = []

    async def record(event: Event, source: str) -> None:
        kept.append(encode(event, source))

    class Way:
        async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
            events = read(body, ToldAll).events
            await Telling(record, ManualClock()).keep("spiffe://bank.example/rempart/agent/x509pop/1", events)
            return b""

    way: Any = Way()
    asyncio.run(own_events(way)(journaled(tmp_path / "j")))
    engine = Engine(load([BUILT_IN]))
    assert "audit_gap" in [alert.rule for payload in kept for alert in engine.take(payload)]


# -- what the server will not have ------------------------------------------------------------------------------------


class Picky:
    """A server that refuses what begins with `bad`, and all of it while `refuses` says why."""

    def __init__(self, directory: Path, payloads: Sequence[bytes]) -> None:
        self.directory, self.kept, self.alarms = directory, list[bytes](), list[str]()
        self.refuses: RempartError | None = None
        journal = Journal(directory / "pdp", "pdp")
        for payload in payloads:
            journal.append(payload)
        journal.commit()
        journal.close()

    async def tell(self, payloads: Sequence[bytes]) -> None:
        if self.refuses is not None:
            raise self.refuses
        if any(one.startswith(b"bad") for one in payloads):
            raise BadInput("bad_event", "not an event of ours")
        self.kept += payloads

    async def alarm(self, reason: str) -> None:
        self.alarms.append(reason)

    def run(self) -> None:
        async def all_of_it() -> None:
            telling = JournalTelling(self.directory / "pdp", self.directory / "pdp.told", self.tell, self.alarm)
            try:
                while await telling.tell_some():
                    pass
            finally:
                telling.close()

        asyncio.run(all_of_it())


def test_one_event_that_is_refused_holds_up_no_others(tmp_path: Path) -> None:
    good = [b"good %d" % number for number in range(1200)]
    world = Picky(tmp_path, [*good[:300], b"bad 1", *good[300:700], b"bad 2", b"bad 3", *good[700:]])
    world.run()
    assert world.kept == good
    aside = tmp_path / "pdp.refused"
    assert aside.read_bytes() == b"bad 1\nbad 2\nbad 3\n"
    assert aside.stat().st_mode & 0o777 == 0o600
    assert ["bad_event" in one for one in world.alarms] == [True] * len(world.alarms)
    assert sum(int(one.split()[0]) for one in world.alarms) == 3
    world.run()  # it is behind us
    assert len(world.kept) == len(good)


@pytest.mark.parametrize("error", [Denied("agent_banned", "banned"), Unavailable("record_behind", "later")])
def test_a_ban_or_a_server_that_is_behind_loses_nothing(tmp_path: Path, error: RempartError) -> None:
    world = Picky(tmp_path, [b"good", b"bad"])
    world.refuses = error
    with pytest.raises(RempartError):
        world.run()
    assert not (tmp_path / "pdp.refused").exists()
    world.refuses = None
    world.run()
    assert world.kept == [b"good"]


def test_what_is_set_aside_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_events, "MAX_ASIDE", 100)
    world = Picky(tmp_path, [b"bad" + b"x" * 37] * 10)
    world.run()
    assert (tmp_path / "pdp.refused").stat().st_size == 82
    assert world.alarms[0].startswith("10 events")
