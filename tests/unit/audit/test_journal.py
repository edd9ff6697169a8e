"""The journal keeps what it acknowledged and never pretends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support_audit import asynchronous, journaled

from rempart.audit import journal as journal_module
from rempart.audit.journal import Journal
from rempart.audit.segment import HEADER_BYTES, segment_numbers, segment_path
from rempart.kernel.errors import BadInput, Conflict, Unavailable
from rempart.kernel.event import Event, EventType

SMALL = 4096


def write(journal: Journal, payload: bytes) -> str:
    """The code of the refusal; empty when it was acknowledged."""
    journal.append(payload)
    try:
        journal.commit()
    except Unavailable as error:
        return error.code
    return ""


def test_what_was_committed_is_there_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "pdp", segment_bytes=SMALL)
    expected = [f"event {n}".encode() * 20 for n in range(200)]
    for payload in expected:
        journal.append(payload)
        journal.commit()
    journal.close()
    assert journaled(tmp_path / "j") == expected
    assert len(segment_numbers(tmp_path / "j")) > 5


@asynchronous
async def test_many_tasks_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j", "pdp")
    syncs = 0
    real = os.fdatasync

    def counting(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        real(fd)

    async def after(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await journal.record_bytes(b"e")

    monkeypatch.setattr(os, "fdatasync", counting)
    await asyncio.gather(*(after(0) for _ in range(64)))
    assert syncs == 1
    await asyncio.gather(*(after(turns) for turns in range(64)))  # one comes with each turn
    assert syncs == 2
    await asyncio.gather(*(after(turns) for turns in range(2 * journal_module._MANY)))  # which doesn't go on for ever
    assert syncs == 4
    assert len(journaled(tmp_path / "j")) == 64 + 64 + 2 * journal_module._MANY
    journal.close()


@asynchronous
async def test_record_encodes_with_the_journals_source(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "people")
    await journal.record(Event(type=EventType.LOGIN, at=1.0, success=True, person="usr_1"))
    journal.close()
    assert b'"source":"people"' in journaled(tmp_path / "j")[0]


@asynchronous
async def test_a_cancelled_caller_does_not_disturb_the_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "pdp")
    tasks = [asyncio.create_task(journal.record_bytes(f"e{n}".encode())) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    journal.close()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j", "pdp")
    with pytest.raises(Conflict) as refused:
        Journal(tmp_path / "j", "pdp")
    assert refused.value.code == "journal_locked"
    first.close()
    Journal(tmp_path / "j", "pdp").close()


@pytest.mark.parametrize("name", ["lock", "0000000000000001.journal", "x.free"])
@pytest.mark.parametrize("there", [True, False])
def test_no_link_is_followed_out_of_the_directory(tmp_path: Path, name: str, there: bool) -> None:
    """Of an agent's host: root opens its journal once before it runs, in a directory that is the agent's."""
    secret, directory = tmp_path / "others", tmp_path / "j"
    directory.mkdir()
    if there:
        other = Journal(tmp_path / "other", "pdp", segment_bytes=SMALL)
        assert write(other, b"event " * 100) == ""
        other.close()
        secret.write_bytes(segment_path(tmp_path / "other", 1).read_bytes() + b"more" * 5_000_000)
    before = secret.read_bytes() if there else None
    (directory / name).symlink_to(secret)
    with contextlib.suppress(Unavailable):
        journal = Journal(directory, "pdp")
        write(journal, b"event")
        journal.close()
    assert (secret.read_bytes() if secret.exists() else None) == before


def test_a_torn_batch_is_cut_off_and_writing_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    journal = Journal(directory, "pdp")
    for n in range(3):
        journal.append(f"whole {n}".encode())
        journal.commit()
    journal.close()
    path = segment_path(directory, 1)
    raw = path.read_bytes()
    for keep in range(1, 30):  # every way in which the last batch can be torn
        path.write_bytes(raw[:-keep] + b"\0" * 64)
        again = Journal(directory, "pdp")
        assert again.damage == ""
        again.append(b"after")
        again.commit()
        again.close()
        assert journaled(directory) == [b"whole 0", b"whole 1", b"after"]
        for number in segment_numbers(directory)[1:]:
            segment_path(directory, number).unlink()


def test_damage_before_the_end_is_told_and_left_for_the_sequencer(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    journal = Journal(directory, "pdp")
    for n in range(3):
        journal.append(f"whole {n}".encode())
        journal.commit()
    journal.close()
    path = segment_path(directory, 1)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"whole 1")] ^= 1
    path.write_bytes(raw)
    again = Journal(directory, "pdp")
    assert "damaged from byte" in again.damage
    again.close()
    assert path.read_bytes() == raw


def test_a_failed_sync_fails_the_batch_and_abandons_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsyncgate: after a failed fdatasync the kernel may call the next one a success for pages that it dropped."""
    journal = Journal(tmp_path / "j", "pdp")
    journal.append(b"kept")
    journal.commit()
    real = os.fdatasync

    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    journal.append(b"lost")
    with pytest.raises(Unavailable) as refused:
        journal.commit()
    assert refused.value.code == "journal_unavailable"
    monkeypatch.setattr(os, "fdatasync", real)
    journal.commit()  # nothing to write, nothing lost since
    journal.append(b"after")
    journal.commit()
    journal.close()
    assert journaled(tmp_path / "j") == [b"kept", b"after"]
    assert segment_numbers(tmp_path / "j") == [1, 2]


@asynchronous
async def test_a_synchronous_writer_learns_that_its_record_was_lost_in_another_ones_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j", "pdp")

    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        journal.append(b"mine")
        with pytest.raises(Unavailable):
            await journal.record_bytes(b"another's")
    with pytest.raises(Unavailable):
        journal.commit()
    journal.close()
    assert journaled(tmp_path / "j") == []


SIGNED = Event(type=EventType.SVID_ISSUED, at=1.0, success=True, service="identity")


@asynchronous
async def test_what_is_made_while_the_disk_writes_is_given_once_the_record_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j", "identity")
    seen: list[str] = []

    def spied(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            seen.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    def make(what: str) -> str:
        seen.append(what)
        return what

    spied("pwrite")
    spied("fdatasync")
    both = [journal.record_while(SIGNED, lambda what=what: make(what)) for what in ("a", "b")]
    assert await asyncio.gather(*both) == ["a", "b"]
    assert seen == ["pwrite", "a", "b", "fdatasync"]
    journal.close()
    assert len(journaled(tmp_path / "j")) == 2


@asynchronous
async def test_what_was_made_is_not_given_when_its_record_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j", "identity")

    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    def fail() -> str:
        raise BadInput("no_key", "the key is gone")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        for make in (lambda: "made", fail):
            with pytest.raises(Unavailable):
                await journal.record_while(SIGNED, make)
    assert journaled(tmp_path / "j") == []
    with pytest.raises(BadInput):
        await journal.record_while(SIGNED, fail)
    assert await journal.record_while(SIGNED, lambda: "made") == "made"
    journal.close()
    assert len(journaled(tmp_path / "j")) == 2
    with pytest.raises(Unavailable):
        await journal.record_while(SIGNED, lambda: "too late")


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk; it needs no rights."""
    directory = tmp_path / "j"
    journal = Journal(directory, "pdp", segment_bytes=SMALL)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged = []
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        for n in range(20):
            payload = f"event {n:03d}".encode() * 20
            if write(journal, payload) == "":
                acknowledged.append(payload)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert 0 < len(acknowledged) < 20
    journal.append(b"after")
    journal.commit()
    journal.close()
    assert journaled(directory) == [*acknowledged, b"after"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_really_full_disk(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        journal = Journal(mount / "j", "pdp", segment_bytes=32 << 10)
        kept: list[bytes] = []
        while write(journal, payload := f"event {len(kept)}".encode() * 100) == "":
            kept.append(payload)
        assert 0 < len(kept) < 1000
        assert journaled(mount / "j") == kept
        segment_path(mount / "j", 1).unlink()
        journal.append(b"after")
        journal.commit()
        journal.close()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_full_backlog_refuses_until_the_sequencer_deletes(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    journal = Journal(directory, "pdp", segment_bytes=SMALL, max_backlog_bytes=3 * SMALL)
    written = 0
    while (refusal := write(journal, b"x" * 500)) == "":
        written += 1
    assert refusal == "journal_backlog_full"
    assert len(journaled(directory)) == written
    segment_path(directory, 1).unlink()
    journal.append(b"after")
    journal.commit()
    journal.close()


@pytest.mark.parametrize("size", [0, 65_536])
def test_what_no_entry_of_the_log_can_hold_is_refused(tmp_path: Path, size: int) -> None:
    journal = Journal(tmp_path / "j", "pdp")
    with pytest.raises(BadInput):
        journal.append(b"x" * size)
    journal.close()
    with pytest.raises(Unavailable):
        journal.append(b"x")
    journal.close()


def test_an_empty_segment_of_a_death_while_creating_it_is_harmless(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    journal = Journal(directory, "pdp")
    journal.append(b"one")
    journal.commit()
    journal.close()
    segment_path(directory, 2).write_bytes(b"\0" * HEADER_BYTES)
    again = Journal(directory, "pdp")
    again.append(b"two")
    again.commit()
    again.close()
    assert again.damage == ""
    assert journaled(directory) == [b"one", b"two"]


_WRITER = """
import sys
from pathlib import Path
from rempart.audit import journal as journal_module
from rempart.audit.journal import Journal
journal = Journal(Path(sys.argv[1]), "pdp", segment_bytes=16384)
number = int(sys.argv[2])
while True:
    for _ in range(7):
        journal.append(b"event %d " % number + b"x" * 200)
        number += 1
    journal.commit()
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    start = 0
    for round in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(directory), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(20 + 13 * round):
            writer.stdout.readline()
        writer.kill()
        acknowledged = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        numbers = [int(payload.split()[1]) for payload in journaled(directory)]
        assert len(set(numbers)) == len(numbers)
        assert set(range(start, acknowledged[-1] if acknowledged else start)) <= set(numbers)
        start = max(numbers) + 1
    assert numbers == sorted(numbers)


def test_what_a_used_file_held_is_neither_read_nor_taken_for_damage(tmp_path: Path) -> None:
    directory = tmp_path / "j"
    for life in range(4):
        journal = Journal(directory, "pdp", segment_bytes=SMALL)
        assert journal.damage == ""
        expected = [f"life {life} event {n}".encode() * 3 for n in range(30)]
        for payload in expected:
            journal.append(payload)
            journal.commit()
        if life % 2:
            journal.close()
        else:  # as after a kill: nothing is cut
            os.close(journal._lock_fd)
        assert [payload for payload in journaled(directory) if payload in expected] == expected
        *older, _ = segment_numbers(directory)
        for number in older:
            path = segment_path(directory, number)
            path.rename(path.with_suffix(".free"))
    assert not [payload for payload in journaled(directory) if payload not in expected]


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", "pdp")
    journal.append(b"pending")
    journal.close()
    journal.close()
    assert journaled(tmp_path / "j") == [b"pending"]
    assert journal_module.SEGMENT_BYTES >= 1 << 20
