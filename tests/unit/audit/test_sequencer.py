"""Exactly once: whatever is killed, damaged, repeated or missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support_audit import SIGNER, open_log, payload

from rempart.audit.journal import Journal
from rempart.audit.model import Query
from rempart.audit.segment import segment_numbers, segment_path
from rempart.audit.sequencer import Sequencer
from rempart.audit.verifier import Key
from rempart.audit.whole_log import verify_log
from rempart.backends.sqlite_search import SqliteSearch
from rempart.crypto.signing import verify_ed25519
from rempart.kernel.errors import Integrity
from rempart.protocols.ocsf import Summary, decode_summary


class Room:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.journals = state / "journals"
        self.own = Journal(self.journals / "sequencer", "sequencer")
        self.open()

    def open(self) -> None:
        self.log = open_log(self.state)
        self.sequencer = Sequencer(
            self.log, self.journals, self.own, partial(SqliteSearch, self.state / "search.db", "log")
        )

    def reopen(self) -> None:
        self.sequencer.close()
        self.open()

    def settle(self) -> None:
        while self.sequencer.cycle():
            pass

    def summaries(self) -> list[Summary]:
        return [decode_summary(self.log.entry(at)) for at in range(self.log.size)]

    def ids(self) -> list[str]:
        return [summary.id for summary in self.summaries() if summary.type != "system.alarm"]

    def alarms(self) -> list[str]:
        return [summary.reason for summary in self.summaries() if summary.type == "system.alarm"]

    def journal(self, name: str = "pdp") -> Journal:
        return Journal(self.journals / name, name, segment_bytes=4096)


@pytest.fixture(params=["new files", "used files"])
def room(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """Twice: with segments as they are in tests, and with files that are used again as large ones are."""
    if request.param == "used files":
        monkeypatch.setattr("rempart.audit.reader._WORTH_KEEPING", 1024)
    made = Room(tmp_path)
    yield made
    made.sequencer.close()
    made.own.close()


def write(journal: Journal, *ids: str, repeat: bool = False) -> None:
    for id in ids:
        journal.append(payload(id, journal.source), repeat=repeat)
    journal.commit()


def test_every_record_of_every_journal_is_integrated_once(room: Room) -> None:
    journals = [room.journal(name) for name in ("pdp", "people", "identity")]
    expected = []
    for n in range(300):
        journal = journals[n % 3]
        write(journal, f"e{n}")
        expected.append(f"e{n}")
        if n % 50 == 0:
            room.sequencer.cycle()
        if n % 70 == 0:
            room.reopen()
    room.settle()
    assert sorted(room.ids()) == sorted(expected)
    assert room.alarms() == []
    for name in ("pdp", "people", "identity"):
        assert len(segment_numbers(room.journals / name)) == 1
    for journal in journals:
        journal.close()


def test_a_failed_commit_is_made_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = room.journal()
    write(journal, "a", "b")

    def full(entries: object, cursors: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(room.log, "integrate", full)
        with pytest.raises(OSError, match="No space"):
            room.sequencer.cycle()
    write(journal, "c")
    room.settle()
    assert room.ids() == ["a", "b", "c"]
    journal.close()


def test_a_restarted_writer_leaves_no_gap_and_no_alarm(room: Room) -> None:
    for round in range(5):
        journal = room.journal()
        write(journal, f"r{round}")
        if round % 2:
            room.settle()
        journal.close()
    room.settle()
    assert room.ids() == [f"r{round}" for round in range(5)]
    assert room.alarms() == []


def test_a_clock_that_jumped_changes_nothing(room: Room) -> None:
    """Nothing is ordered or deduplicated by time."""
    journal = room.journal()
    for n, at in enumerate((1_700_000_000, 5, 4_000_000_000, -3)):
        raw = payload(f"t{n}").replace(b"1700000000000", str(at * 1000).encode())
        journal.append(raw)
    journal.commit()
    room.settle()
    while room.sequencer.index_some():
        pass
    assert room.ids() == ["t0", "t1", "t2", "t3"]
    assert room.sequencer.index.find(Query(since=0, until=10_000)) == [1]
    journal.close()


def test_a_deleted_segment_is_an_alarm(room: Room) -> None:
    journal = room.journal()
    for n in range(60):
        write(journal, f"e{n}")
    _, second, *_ = segment_numbers(room.journals / "pdp")
    segment_path(room.journals / "pdp", second).unlink()
    room.settle()
    assert any("records of the journal pdp are missing" in alarm for alarm in room.alarms())
    assert {"e0", "e59"} <= set(room.ids())
    journal.close()


def test_a_replaced_journal_is_an_alarm_and_is_read(room: Room) -> None:
    journal = room.journal()
    write(journal, "old")
    room.settle()
    journal.close()
    shutil.rmtree(room.journals / "pdp")
    journal = room.journal()
    write(journal, "new")
    room.settle()
    assert room.ids() == ["old", "new"]
    assert any("was replaced" in alarm for alarm in room.alarms())
    journal.close()


def test_damage_is_an_alarm_the_segment_is_kept_and_the_rest_integrated(room: Room) -> None:
    journal = room.journal()
    for n in range(5):
        write(journal, f"e{n}")
    journal.close()
    path = segment_path(room.journals / "pdp", 1)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b'"e2"') + 1] ^= 4
    path.write_bytes(raw)
    room.journal().close()
    room.settle()
    assert room.ids() == ["e0", "e1", "e3", "e4"]
    assert any("is damaged from byte" in alarm for alarm in room.alarms())
    assert list((room.journals / "pdp").glob("*.damaged"))


def test_repeats_are_kept_once_even_across_restarts_and_a_lost_index(room: Room) -> None:
    journal = room.journal()
    write(journal, "a", "b", repeat=True)
    write(journal, "a", repeat=True)
    room.settle()
    write(journal, "a", "c", repeat=True)
    room.settle()
    room.sequencer.close()
    for path in room.state.glob("search.db*"):
        path.unlink()
    room.open()
    write(journal, "b", "d", repeat=True)
    room.settle()
    assert room.ids() == ["a", "b", "c", "d"]
    assert room.sequencer.counts.repeated == 1
    journal.close()


def test_another_source_cant_suppress_an_event_by_taking_its_id_first(room: Room) -> None:
    for name in ("rogue", "wallet"):
        journal = room.journal(name)
        write(journal, "evt_1", repeat=True)
        journal.close()
        room.settle()
    assert Counter(room.ids()) == {"evt_1": 2}


def test_a_failing_index_never_stops_integration(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = room.journal()
    write(journal, "a")
    (room.state / "search.db").mkdir()
    with pytest.raises(Exception, match=r"search|directory"):
        room.sequencer.index_some()
    room.settle()
    (room.state / "search.db").rmdir()
    write(journal, "b")
    room.settle()
    while room.sequencer.index_some():
        pass
    assert room.sequencer.index.find(Query()) == [1, 0]
    journal.close()


def test_located_by_event_id_and_request_id_before_and_after_indexing(room: Room) -> None:
    journal = room.journal()
    journal.append(payload("dec_1", request_id="req_1"))
    journal.append(payload("dec_2", request_id="req_1"))
    journal.commit()
    room.settle()
    for _ in range(2):
        assert room.sequencer.locate("dec_2") == [1]
        assert room.sequencer.locate("req_1") == [0, 1]
        assert room.sequencer.locate("req_2") == []
        while room.sequencer.index_some():
            pass
    journal.close()


def test_a_backlog_longer_than_memory_is_indexed_from_the_log(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rempart.audit.sequencer._MAX_UNINDEXED", 100)
    journal = room.journal()
    for n in range(400):
        journal.append(payload(f"e{n}"))
    journal.commit()
    room.settle()
    while room.sequencer.index_some():
        pass
    assert room.sequencer.index.size == 400
    assert room.sequencer.events_by_type() == {"decision": 400}
    journal.close()


_SEQUENCE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.unit.audit.test_sequencer import Room
import rempart.audit.reader
rempart.audit.reader._WORTH_KEEPING = int(sys.argv[3])
room = Room(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    room.sequencer.cycle()
    room.sequencer.index_some()
"""


@pytest.mark.parametrize("worth_keeping", [1024, 1 << 20])
def test_a_sequencer_killed_at_any_moment_integrates_each_record_once(tmp_path: Path, worth_keeping: int) -> None:
    journal = Journal(tmp_path / "journals" / "pdp", "pdp", segment_bytes=4096)
    written = 0
    root = Path(__file__).parents[3]
    for round in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _SEQUENCE, str(tmp_path), str(root), str(worth_keeping)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(60 + 37 * round):
            write(journal, f"e{written}")
            written += 1
        process.kill()
        process.wait()
        process.stdout.close()
    journal.close()
    room = Room(tmp_path)
    room.settle()
    assert room.ids() == [f"e{n}" for n in range(written)]
    assert room.alarms() == []
    report = verify_log(tmp_path / "log", Key.parse(SIGNER.verifier_key), verify_ed25519)
    assert report.problems == []
    room.sequencer.close()
    room.own.close()


def test_a_damaged_log_is_not_continued(room: Room) -> None:
    journal = room.journal()
    write(journal, "a", "b")
    room.settle()
    journal.close()
    tile = max((room.state / "log/tile/0").rglob("*.p/*"))
    tile.write_bytes(b"x" * len(tile.read_bytes()))
    with pytest.raises(Integrity):
        room.reopen()
    shutil.rmtree(room.state / "log")
    (room.state / "state").unlink()
    room.open()


@pytest.mark.parametrize("segments", [1, 30])
def test_a_journal_replaced_while_nobody_looked_is_read_from_its_beginning(room: Room, segments: int) -> None:
    journal = room.journal()
    for n in range(100):
        write(journal, f"old{n}")
    room.settle()
    journal.close()
    room.sequencer.close()
    shutil.rmtree(room.journals / "pdp")
    journal = room.journal()
    for n in range(segments * 10):
        write(journal, f"new{n}")
    room.open()
    room.settle()
    assert room.ids()[100:] == [f"new{n}" for n in range(segments * 10)]
    assert len(room.alarms()) == 1
    journal.close()


@pytest.mark.parametrize("junk", [b"", b"junk", b"\0" * 4096, b"\xff" * 9000])
def test_a_segment_that_is_no_segment_neither_stops_nor_hangs_the_sequencer(room: Room, junk: bytes) -> None:
    journal = room.journal()
    write(journal, "a")
    room.settle()
    segment_path(room.journals / "pdp", 1).unlink()
    segment_path(room.journals / "pdp", 1).write_bytes(junk)
    room.settle()
    (room.journals / "strange").mkdir()
    segment_path(room.journals / "strange", 1).write_bytes(junk)
    (room.journals / "strange" / "zzzzzzzzzzzzzzzz.journal").write_bytes(b"")
    room.settle()
    segment_path(room.journals / "strange", 2).write_bytes(junk)
    other = room.journal("other")
    write(other, "b")
    room.settle()
    assert room.ids() == ["a", "b"]
    journal.close()
    other.close()


def test_a_used_file_is_used_again_and_what_it_held_is_never_read(room: Room) -> None:
    journal = room.journal()
    expected = []
    for n in range(400):
        write(journal, f"e{n}")
        expected.append(f"e{n}")
        if n % 17 == 0:
            room.settle()
        if n % 90 == 0:  # dies and comes back: the file behind its last record is full of older ones
            journal.close()
            journal = room.journal()
            assert journal.damage == ""
    journal.close()
    room.settle()
    assert room.ids() == expected
    assert room.alarms() == []
    assert len(list((room.journals / "pdp").iterdir())) <= 5
