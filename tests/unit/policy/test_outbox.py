"""Answers leave after their records are on disk; when a batch is worth its sync."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rempart.kernel.errors import Unavailable
from rempart.policy.counters import Counters
from rempart.policy.outbox import BATCH, PATIENCE, Outbox


class Disk:
    def __init__(self) -> None:
        self.pending = 0
        self.batches: list[int] = []
        self.broken = False

    def append(self, payload: bytes, repeat: bool = False) -> None:
        self.pending += 1

    def commit(self) -> None:
        if self.broken:
            raise Unavailable("journal_unavailable", "broken")
        self.batches.append(self.pending)
        self.pending = 0


class Turns:
    """An event loop that turns when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.append(callback)

    def turn(self) -> None:
        ready, self._ready = self._ready, []
        for callback in ready:
            callback()


class Wire:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.sent: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, answer: bytes) -> None:
        assert not self._disk.pending, "answered before its record was on disk"
        self.sent.append(answer)


def made() -> tuple[Outbox, Disk, Turns, Any]:
    disk, turns = Disk(), Turns()
    loop: Any = turns
    return Outbox(disk, Counters(), loop, clock=lambda: turns.now), disk, turns, Wire(disk)


def test_a_question_alone_waits_for_one_empty_turn_and_no_time() -> None:
    outbox, disk, turns, wire = made()
    outbox.put(wire, b"answer", b"record")
    assert not wire.sent
    turns.turn()
    turns.turn()
    assert (disk.batches, wire.sent) == ([1], [b"answer"])


def test_after_full_batches_a_small_one_waits_for_more_but_not_for_long() -> None:
    outbox, disk, turns, wire = made()
    for _ in range(BATCH):
        outbox.put(wire, b"a", b"r")
    assert disk.batches == [BATCH]
    turns.turn()
    turns.turn()
    outbox.put(wire, b"late", b"r")
    for _ in range(5):
        turns.turn()
    assert disk.batches == [BATCH]
    for _ in range(BATCH // 2 - 1):
        outbox.put(wire, b"b", b"r")
    turns.turn()
    turns.turn()
    assert disk.batches == [BATCH, BATCH // 2]

    outbox.put(wire, b"last", b"r")
    turns.turn()
    turns.turn()
    assert disk.batches == [BATCH, BATCH // 2]
    turns.now += PATIENCE
    turns.turn()
    assert disk.batches == [BATCH, BATCH // 2, 1]
    assert wire.sent[-1] == b"last"


def test_who_asks_alone_again_soon_waits_for_nobody() -> None:
    outbox, disk, turns, wire = made()
    for _ in range(BATCH):
        outbox.put(wire, b"a", b"r")
    turns.turn()
    for _ in range(10):
        outbox.put(wire, b"a", b"r")
        turns.turn()
        turns.now += PATIENCE
        turns.turn()
    before = len(disk.batches)
    outbox.put(wire, b"a", b"r")
    turns.turn()
    turns.turn()
    assert len(disk.batches) == before + 1


def test_what_could_not_be_recorded_is_answered_503() -> None:
    outbox, disk, turns, wire = made()
    disk.broken, disk.pending = True, 0
    wire._disk = Disk()
    outbox.put(wire, b"allowed", b"record")
    turns.turn()
    turns.turn()
    assert wire.sent[0].startswith(b"HTTP/1.1 503 ")
    assert outbox.last_failure == "journal_unavailable"
