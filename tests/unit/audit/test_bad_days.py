"""What happens on bad days, as docs/audit.md says: full, read-only and slow disks, flipped bytes, lost processes.

Further: the clock set back, deleted and replaced journals and a killed sequencer in `test_sequencer.py`, a full disk
under the journal and under the log in `test_journal.py` and `test_log.py`, two writers in `test_log_storage.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support_audit import SIGNER, asynchronous, journaled, payload

from rempart.audit import sequencer
from rempart.audit.journal import Journal
from rempart.audit.log import MerkleLog
from rempart.audit.reader import JournalReader
from rempart.audit.retention import Hold, Holds
from rempart.audit.segment import segment_numbers, segment_path
from rempart.audit.sequencer import Sequencer
from rempart.audit.storage import DirectoryStorage
from rempart.audit.verifier import Key
from rempart.audit.whole_log import verify_log
from rempart.backends.sqlite_search import SqliteSearch
from rempart.crypto.signing import verify_ed25519
from rempart.kernel.errors import Conflict, Integrity, Unavailable
from rempart.protocols.ocsf import decode_summary

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB, that can be made read-only."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(mount)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


class Record:
    """A sequencer over `state`, with the journal of the PDP."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.own = Journal(state / "journals/sequencer", "sequencer", segment_bytes=64 << 10)
        self.pdp = Journal(state / "journals/pdp", "pdp", segment_bytes=64 << 10)
        self.log = MerkleLog(DirectoryStorage(state / "log", state / "state"), SIGNER)
        index = partial(SqliteSearch, state / "search.db", "log")
        self.sequencer = Sequencer(self.log, state / "journals", self.own, index)

    def write(self, *ids: str) -> None:
        for id in ids:
            self.pdp.append(payload(id))
        self.pdp.commit()

    def settle(self) -> None:
        while self.sequencer.cycle():
            pass

    @property
    def events(self) -> list[str]:
        """Ids of the PDP's events, then how many alarms there are."""
        summaries = [decode_summary(self.log.entry(at)) for at in range(self.log.size)]
        return [one.id for one in summaries if one.type != "system.alarm"]

    @property
    def alarms(self) -> list[str]:
        summaries = [decode_summary(self.log.entry(at)) for at in range(self.log.size)]
        return [one.reason for one in summaries if one.type == "system.alarm"]

    def close(self) -> None:
        self.sequencer.close()
        self.log.close()
        self.pdp.close()
        self.own.close()


@needs_root
def test_a_disk_that_fills_up_under_the_log_and_is_freed_loses_nothing(small_disk: Path) -> None:
    record = Record(small_disk)
    record.write(*(f"e{n}" for n in range(200)))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(5 << 20))
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        file.write(bytes(4096))
    with pytest.raises((OSError, Unavailable)):
        record.settle()
    assert record.log.size in (0, 200)
    filler.unlink()
    record.settle()
    assert record.events == [f"e{n}" for n in range(200)]
    assert verify_log(small_disk / "log", Key.parse(SIGNER.verifier_key), verify_ed25519).problems == []
    record.close()


def test_a_disk_that_became_read_only_refuses_and_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel makes a disk that fails. What was acknowledged is there, nothing is acknowledged meanwhile."""
    record = Record(tmp_path)
    record.write("before")
    real = os.open

    def refused(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open_to_read(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        return refused() if flags & (os.O_WRONLY | os.O_RDWR) else real(path, flags, mode, **more)

    with monkeypatch.context() as read_only:
        for name in ("pwrite", "write", "fdatasync", "unlink", "rename", "replace", "ftruncate"):
            read_only.setattr(os, name, refused)
        read_only.setattr(os, "open", open_to_read)
        with pytest.raises(Unavailable):
            record.write("refused")
        with pytest.raises((OSError, Unavailable, Integrity)):
            record.settle()
    record.write("after")
    record.settle()
    assert record.events == ["before", "after"]
    record.close()


@asynchronous
async def test_a_slow_disk_is_waited_for_once_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync of 50 ms: 200 writers at once are done after a few of them, and the disk is never asked more often."""
    journal = Journal(tmp_path / "j", "pdp")
    real, syncs = os.fdatasync, 0

    def slow(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        time.sleep(0.05)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    await asyncio.gather(*(journal.record_bytes(b"event %d" % n) for n in range(200)))
    assert syncs <= 4
    journal.close()
    assert len(journaled(tmp_path / "j")) == 200


def three_batches(directory: Path) -> tuple[bytes, list[bytes]]:
    """A journal's only segment as a crash leaves it, and its records."""
    journal = Journal(directory, "pdp", segment_bytes=512)
    records = [b"first of one", b"second of one", b"only of two", b"only of three"]
    for batch in (records[:2], records[2:3], records[3:]):
        for record in batch:
            journal.append(record)
        journal.commit()
    journal.close()
    (number,) = segment_numbers(directory)
    return segment_path(directory, number).read_bytes(), records


def read_after_restart(directory: Path, raw: bytes) -> tuple[list[bytes], list[str]]:
    """Records and what an alarm would say, of a segment with these bytes, once its process has started again."""
    number = segment_numbers(directory)[0]
    for other in segment_numbers(directory)[1:]:
        segment_path(directory, other).unlink()
    segment_path(directory, number).write_bytes(raw)
    journal = Journal(directory, "pdp", segment_bytes=512)
    journal.append(b"after the restart")
    journal.commit()
    journal.close()
    reader = JournalReader(directory)
    records, trouble = [], []
    for _ in range(8):
        reading = reader.read(100)
        records += [record for _, record in reading.records]
        trouble += reading.trouble
    reader.close()
    return records, trouble


def test_every_torn_tail_is_cut_and_nothing_else(tmp_path: Path) -> None:
    """Cut at each byte: whole batches stay, the torn one goes without an alarm (it was never acknowledged)."""
    raw, records = three_batches(tmp_path / "j")
    for end in range(128, len(raw) + 1):
        found, trouble = read_after_restart(tmp_path / "j", raw[:end])
        assert trouble == [], end
        assert found[-1] == b"after the restart"
        assert found[:-1] in (records[:0], records[:2], records[:3], records), end
    assert found[:-1] == records


def test_every_flipped_byte_before_the_tail_is_an_alarm_and_no_record_is_ever_made_up(tmp_path: Path) -> None:
    """A flip in the last batch can't be told from a torn write: it is cut. Anywhere else it is an alarm."""
    raw, records = three_batches(tmp_path / "j")
    last = raw.rindex(b"\xf5\xffRJ")
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0x41
        found, trouble = read_after_restart(tmp_path / "j", bytes(changed))
        assert found[-1] == b"after the restart", at
        assert [record for record in found[:-1] if record not in records] == [], at
        if at < last:
            assert trouble or found[:-1] == records, at
            assert trouble, f"byte {at} was changed in silence"
        else:
            assert found[:-1] in (records[:3], records), at


def test_every_flipped_byte_of_the_state_is_refused(tmp_path: Path) -> None:
    log = MerkleLog(DirectoryStorage(tmp_path / "log", tmp_path / "state", lock=False), SIGNER)
    log.integrate([payload(f"e{n}") for n in range(300)], {})
    raw = (tmp_path / "state").read_bytes()
    for at in range(0, len(raw) - 1, 3):
        changed = bytearray(raw)
        changed[at] ^= 0x11
        (tmp_path / "state").write_bytes(changed)
        with pytest.raises(Integrity):
            MerkleLog(DirectoryStorage(tmp_path / "log", tmp_path / "state", lock=False), SIGNER)


def test_every_flipped_byte_of_the_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "holds.json"
    Holds(path).put(Hold(id="case", reason="a lawsuit", person="usr_1"))
    assert [hold.person for hold in Holds(path).all] == ["usr_1"]
    raw = path.read_bytes()
    for at in range(len(raw) - 1):
        changed = bytearray(raw)
        changed[at] ^= 0x11
        path.write_bytes(changed)
        with pytest.raises(Integrity):
            Holds(path)


def test_a_second_sequencer_is_refused(tmp_path: Path) -> None:
    record = Record(tmp_path)
    with pytest.raises(Conflict) as refused:
        DirectoryStorage(tmp_path / "log", tmp_path / "state")
    assert refused.value.code == "log_locked"
    with pytest.raises(Conflict) as refused:
        Journal(tmp_path / "journals/sequencer", "sequencer")
    assert refused.value.code == "journal_locked"
    record.close()
    Record(tmp_path).close()


def test_the_journal_of_a_process_that_never_comes_back_is_integrated_and_waits_quietly(tmp_path: Path) -> None:
    record = Record(tmp_path)
    gone = Journal(tmp_path / "journals/gone", "gone", segment_bytes=64 << 10)
    for n in range(300):
        gone.append(payload(f"g{n}", "gone"))
        gone.commit()
    os.close(gone._lock_fd)  # killed: nothing is closed in order
    for _ in range(3):
        record.settle()
        record.sequencer._readers.clear()  # as after a restart
    assert (record.events, record.alarms) == ([f"g{n}" for n in range(300)], [])
    assert record.sequencer.backlog().get("gone", 0) == 0
    assert len(segment_numbers(tmp_path / "journals/gone")) == 1, "the newest stays, it carries the numbering"
    record.close()


def test_a_long_backlog_is_worked_off_in_bounded_steps_while_decisions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 here, a million in `make bench`. Each step is short, so that searches and probes are answered."""
    record = Record(tmp_path)
    with monkeypatch.context() as quick:
        quick.setattr(os, "fdatasync", lambda fd: None)  # a backlog is wanted, not how it came to be
        writer = Journal(tmp_path / "journals/people", "people")
        for n in range(100_000):
            writer.append(payload(f"p{n}", "people"))
            if n % 1000 == 999:
                writer.commit()
        writer.close()
    steps = []
    while (read := record.sequencer.cycle()) or record.sequencer.behind:
        if len(steps) < 20:
            record.write(f"d{len(steps)}")  # durable when it returns, whatever waits before it
        record.sequencer.index_some()
        assert len(record.sequencer._recent) <= sequencer._MAX_UNINDEXED
        steps.append(read)
    written = [f"p{n}" for n in range(100_000)] + [f"d{n}" for n in range(20)]
    ids: list[str] = []
    while len(ids) < record.log.size:  # a bundle at a time
        ids += [decode_summary(entry).id for entry in record.log.entries(len(ids), record.log.size)]
    assert sorted(ids) == sorted(written)
    assert len(steps) > 20
    assert max(steps) <= 4 * sequencer.MAX_RECORDS + 20
    assert not record.sequencer.behind
    record.close()
