"""A shipment: in order, at least once, confirmed before the cursor moves; a sink that fails holds up nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rempart.audit import shipping
from rempart.audit.feed import Page
from rempart.audit.ports import Busy, Item, Sent
from rempart.audit.shipping import Shipment
from rempart.audit.shipping_report import page, report
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import Integrity, Unavailable
from rempart.kernel.event import EventType, Severity


class Log:
    """Implements `audit.ports.Feed`."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.page = 10
        self.deleted: set[int] = set()

    async def read(self, start: int, wait: float) -> Page:
        if start >= self.size:
            await asyncio.sleep(0.01)
        end = min(self.size, start + self.page)
        numbers = range(start, end)
        ids = [f"deleted-{n}" if n in self.deleted else f"{n:064x}" for n in numbers]
        return Page(start, self.size, ids, [msgspec.Raw(b'{"n":%d}' % n) for n in numbers])


class Receiver:
    """Implements `audit.ports.Sink`: `trouble` answers the next attempts, an exception or what is rejected."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.trouble: list[Exception | dict[int, str]] = []
        self.marks: list[dict[str, Any]] = []

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        self.marks.append(dict(mark))
        trouble = self.trouble.pop(0) if self.trouble else {}
        if isinstance(trouble, Exception):
            raise trouble
        self.batches.append([item.index for item in batch if item.index not in trouble])
        return Sent({"batches": len(self.batches)}, trouble)

    @property
    def taken(self) -> list[int]:
        return [index for batch in self.batches for index in batch]

    async def close(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(shipping, "LONGEST_PAUSE", 0.01)


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[EventType, str]] = []

    async def __call__(self, kind: EventType, reason: str, severity: Severity, details: Mapping[str, Any]) -> None:
        self.events.append((kind, reason))

    @property
    def kinds(self) -> list[EventType]:
        return [kind for kind, _ in self.events]


def make(tmp_path: Path, log: Log, receiver: Receiver, told: Told | None = None) -> Shipment:
    return Shipment("siem", receiver, log, tmp_path, SystemClock(), told or Told())


def ship(shipment: Shipment, done: Any) -> None:
    async def until() -> None:
        task = asyncio.create_task(shipment.run())
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(until())


def test_everything_arrives_once_and_in_order(tmp_path: Path) -> None:
    log, receiver = Log(35), Receiver()
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: shipment.progress.next == 35)
    assert receiver.taken == list(range(35))
    assert report(shipment)["state"] == "up to date"
    assert 'rempart_sink_next_index{sink="siem"} 35' in page([shipment])


def test_the_cursor_moves_only_with_what_was_confirmed_and_survives(tmp_path: Path) -> None:
    log, receiver = Log(25), Receiver()
    receiver.trouble = [{}, Unavailable("sink_unavailable", "down")] + [Unavailable("sink_unavailable", "down")] * 999
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: shipment.progress.failures > 2)
    assert receiver.taken == list(range(10))
    receiver.trouble = []
    again = make(tmp_path, log, receiver)
    assert again.progress.next == 10
    ship(again, lambda: again.progress.next == 25)
    assert receiver.taken == list(range(25))
    assert receiver.marks[-1] == {"batches": 2}


def test_a_sink_that_is_away_is_told_once_and_once_when_it_is_back(tmp_path: Path) -> None:
    log, receiver, told = Log(5), Receiver(), Told()
    receiver.trouble = [Unavailable("sink_unavailable", "connection refused")] * 5
    shipment = make(tmp_path, log, receiver, told)
    ship(shipment, lambda: shipment.progress.next == 5)
    assert told.kinds == [EventType.SINK_FAILED, EventType.SINK_RECOVERED]
    assert "connection refused" in told.events[0][1]
    assert shipment.progress.failures == 5
    assert receiver.taken == list(range(5))


def test_a_busy_sink_is_sent_less_at_once_down_to_one(tmp_path: Path) -> None:
    log, receiver = Log(10), Receiver()
    receiver.trouble = [Busy("sink_busy", "429")] * 6
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: shipment.progress.next == 10)
    assert len(receiver.batches[0]) == 1
    assert receiver.taken == list(range(10))


def test_what_is_refused_for_good_is_written_down_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    log, receiver, told = Log(30), Receiver(), Told()
    receiver.trouble = [{3: "mapper_parsing_exception: no", 7: "the same"}, {12: "x" * 5000}]
    shipment = make(tmp_path, log, receiver, told)
    ship(shipment, lambda: shipment.progress.next == 30)
    lines = [json.loads(line) for line in (tmp_path / "siem.rejected.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [3, 7, 12]
    assert len(lines[2]["why"]) == 500
    assert receiver.taken == [n for n in range(30) if n not in (3, 7, 12)]
    assert told.kinds == [EventType.SINK_REJECTED]  # the second within a minute is counted, not told
    assert shipment.progress.rejected == 3


def test_too_many_refused_ones_stop_the_sink_rather_than_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "MAX_REJECTED_BYTES", 10)
    log, receiver = Log(30), Receiver()
    receiver.trouble = [{n: "no"} for n in (0, 10, 10, 10)]
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: "siem.rejected.jsonl is larger" in shipment.progress.failing)
    assert shipment.progress.next == 10


def test_a_log_with_fewer_events_than_were_sent_is_an_alarm(tmp_path: Path) -> None:
    log, receiver, told = Log(20), Receiver(), Told()
    shipment = make(tmp_path, log, receiver, told)
    ship(shipment, lambda: shipment.progress.next == 20)
    log.size = 4
    rewound = make(tmp_path, log, receiver, told)
    ship(rewound, lambda: bool(rewound.progress.failing))
    assert "the log has 4 events, of which 20 were sent" in told.events[-1][1]
    assert receiver.taken == list(range(20))


def test_what_retention_deleted_before_it_was_taken_is_passed_over(tmp_path: Path) -> None:
    log, receiver = Log(30), Receiver()
    log.deleted = {3, 8, 9, *range(10, 20), 29}
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: shipment.progress.next == 30)
    assert receiver.taken == [n for n in range(30) if n not in log.deleted]
    assert make(tmp_path, log, receiver).progress.next == 30


def test_a_damaged_cursor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "siem.cursor").write_bytes(b'{"next": tru')
    with pytest.raises(Integrity) as refused:
        make(tmp_path, Log(), Receiver())
    assert refused.value.code == "bad_cursor"


def test_a_full_journal_stops_no_shipment(tmp_path: Path) -> None:
    async def full(kind: EventType, reason: str, severity: Severity, details: Mapping[str, Any]) -> None:
        raise Unavailable("journal_backlog_full", "full")

    log, receiver = Log(5), Receiver()
    receiver.trouble = [Unavailable("sink_unavailable", "down")]
    shipment = Shipment("siem", receiver, log, tmp_path, SystemClock(), full)
    ship(shipment, lambda: shipment.progress.next == 5)
    assert receiver.taken == list(range(5))


def test_what_no_sink_should_raise_ends_no_shipment(tmp_path: Path) -> None:
    log, receiver, told = Log(3), Receiver(), Told()
    receiver.trouble = [RecursionError("deep"), ZeroDivisionError()]
    shipment = make(tmp_path, log, receiver, told)
    ship(shipment, lambda: shipment.progress.next == 3)
    assert receiver.taken == [0, 1, 2]
    assert told.kinds == [EventType.SINK_FAILED, EventType.SINK_RECOVERED]


def test_a_disk_that_fills_up_within_a_line_loses_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, receiver = Log(3), Receiver()
    receiver.trouble = [{1: "first"}, {1: "second"}]
    write, calls = os.write, 0

    def full(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(fd, bytes(data)[:7])  # as a disk does that has room for so much
        if calls == 2:
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data)

    monkeypatch.setattr(shipping.os, "write", full)
    shipment = make(tmp_path, log, receiver)
    ship(shipment, lambda: shipment.progress.next == 3)
    lines = [json.loads(line) for line in (tmp_path / "siem.rejected.jsonl").read_text().splitlines()]
    assert [(line["index"], line["why"]) for line in lines] == [(1, "second")]
