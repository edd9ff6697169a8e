"""The Merkle log on disk: commits are atomic, tampering is found, another implementation agrees."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support_audit import SIGNER, open_log

from rempart.audit import log as log_module
from rempart.audit.log import MerkleLog
from rempart.audit.reader import Cursor
from rempart.audit.verifier import Head, Key, leaf_hash, open_checkpoint, root_from_inclusion, verify_consistency
from rempart.audit.whole_log import LogReport, verify_log
from rempart.crypto.signing import NoteSigner, verify_ed25519
from rempart.kernel.errors import Integrity

KEY = Key.parse(SIGNER.verifier_key)
CURSOR = Cursor(1, 128, 0, "")


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(start, end)]


def check(state: Path, *remembered: Head) -> LogReport:
    return verify_log(state / "log", KEY, verify_ed25519, remembered)


def head(log: MerkleLog) -> Head:
    return open_checkpoint(log.checkpoint, KEY, verify_ed25519)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(0, 300), max_size=8), reopen=st.booleans())
def test_however_it_grew_it_verifies_and_every_proof_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], reopen: bool
) -> None:
    state = tmp_path_factory.mktemp("log")
    log = open_log(state)
    heads = [head(log)]
    for step in steps:
        log.integrate(entries(log.size, log.size + step), {"pdp": CURSOR})
        if reopen:
            log = open_log(state)
        heads.append(head(log))
    assert log.size == sum(steps)
    assert check(state, *heads).problems == []
    for index in {0, log.size // 2, log.size - 1} if log.size else ():
        path = log.prove_inclusion(index)
        assert log.entry(index) == b"entry %d" % index
        assert root_from_inclusion(leaf_hash(log.entry(index)), index, log.size, path) == log.root
    for old in heads:
        verify_consistency(old, head(log), log.prove_consistency(old.size))


def test_a_log_of_three_levels(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    while log.size < 65_536 + 300:
        log.integrate(entries(log.size, min(log.size + 9000, 65_536 + 300)), {})
    assert check(tmp_path).problems == []
    assert (tmp_path / "log/tile/1/000").stat().st_size == 256 * 32
    assert (tmp_path / "log/tile/2/000.p/1").stat().st_size == 32
    for index in (0, 65_535, 65_536, log.size - 1):
        path = log.prove_inclusion(index)
        assert root_from_inclusion(leaf_hash(log.entry(index)), index, log.size, path) == log.root
    assert open_log(tmp_path).root == log.root


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("pristine")
    log = open_log(state)
    for step in (200, 56, 300, 1, 40):
        log.integrate(entries(log.size, log.size + step), {"pdp": CURSOR})
    return state


@pytest.fixture
def copied(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "state")
    return tmp_path / "state"


def test_any_changed_byte_is_found(copied: Path) -> None:
    chance = random.Random(7)  # nosec B311 - a repeatable choice, nothing secret
    paths = sorted(path for path in (copied / "log").rglob("*") if path.is_file())
    assert len(paths) > 8
    assert check(copied).ok
    for path in paths:
        raw = path.read_bytes()
        for _ in range(12):
            changed = bytearray(raw)
            at = chance.randrange(len(raw))
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            report = check(copied)
            assert not report.ok, (path, at)
            assert path.name == "checkpoint" or "tile/" in report.problems[0] or "log:" in report.problems[0]
        for changed_raw in (raw[:-1], raw + b"\0", b""):
            path.write_bytes(changed_raw)
            assert not check(copied).ok, path
        path.write_bytes(raw)
    assert check(copied).ok


def test_a_missing_file_is_found_unless_a_longer_one_says_the_same(copied: Path) -> None:
    for path in sorted(path for path in (copied / "log").rglob("*") if path.is_file()):
        raw = path.read_bytes()
        path.unlink()
        replaced = path.parent.name.endswith(".p") and "597" not in path.name and path.name not in ("2", "85")
        assert check(copied).ok == replaced, path
        path.write_bytes(raw)


def test_a_strange_file_is_found(copied: Path) -> None:
    (copied / "log/tile/entries/backdoor").write_bytes(b"x")
    assert "is no part of a log" in check(copied).problems[0]


def test_a_rewound_log_is_noticed_by_what_was_remembered(pristine: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(pristine, state)
    log = open_log(state)
    log.integrate(entries(log.size, log.size + 10), {})
    newer = head(log)
    shutil.rmtree(state)
    shutil.copytree(pristine, state)
    assert check(state).ok
    assert "was cut or rewound" in check(state, newer).problems[0]


def test_a_rewritten_log_is_noticed_even_when_signed_with_the_right_key(pristine: Path, tmp_path: Path) -> None:
    honest = head(open_log_copy(pristine, tmp_path / "copy"))
    log = open_log(tmp_path / "other")
    log.integrate([b"something else", *entries(1, honest.size + 20)], {})
    assert check(tmp_path / "other").ok
    assert "was rewritten" in check(tmp_path / "other", honest).problems[0]


def open_log_copy(pristine: Path, to: Path) -> MerkleLog:
    shutil.copytree(pristine, to)
    return open_log(to)


def test_another_logs_key_is_refused(pristine: Path) -> None:
    other = Key.parse(NoteSigner(SIGNER.name, bytes(32)).verifier_key)
    assert "not signed" in verify_log(pristine / "log", other, verify_ed25519).problems[0]


@pytest.mark.parametrize("size", [250, 300, 510])
@pytest.mark.parametrize("failing", range(12))
def test_a_crash_anywhere_in_a_commit_leaves_the_old_or_the_new_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, size: int
) -> None:
    """The nth file that a commit opens was opened, truncated if so asked, and nothing happened after."""
    log = open_log(tmp_path)
    log.integrate(entries(0, size), {"pdp": CURSOR})
    calls = 0
    real = os.open

    class Crash(BaseException):
        pass

    def crashing(path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        nonlocal calls
        calls += 1
        fd = real(path, flags, mode)
        if calls > failing:
            os.close(fd)
            raise Crash
        return fd

    moved = Cursor(1, 999, 20, "x")
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", crashing)
        with contextlib.suppress(Crash):
            log.integrate([b"other %d" % n for n in range(20)], {"pdp": moved})
    again = open_log(tmp_path)
    assert (again.size, again.cursors["pdp"]) in ((size, CURSOR), (size + 20, moved))
    assert check(tmp_path).problems == []
    again.integrate(entries(again.size, 600), {"pdp": moved})
    assert check(tmp_path).problems == []
    assert open_log(tmp_path).entry(599) == b"entry 599"


def test_a_full_disk_leaves_the_log_as_it_was_and_the_same_call_works_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    log.integrate(entries(0, 250), {})

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            log.integrate(entries(250, 300), {})
    assert log.size == 250
    log.integrate(entries(250, 300), {})
    assert check(tmp_path).problems == []


@pytest.mark.parametrize("after", range(9))
def test_what_a_full_disk_left_half_done_may_come_back_in_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The journals are read again after a failure, and their records may interleave otherwise."""
    log = open_log(tmp_path)
    log.integrate(entries(0, 250), {})
    left = [after]
    write = os.write

    def filling(fd: int, data: bytes) -> int:
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return write(fd, data[: max(1, len(data) // 2)]) if left[0] == 0 else write(fd, data)

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", filling)
        with contextlib.suppress(OSError):
            log.integrate(entries(250, 265), {})
    if log.size == 250:
        log.integrate(list(reversed(entries(250, 270))), {})
    log.integrate(entries(log.size, 600), {})
    log.publish()
    assert check(tmp_path).problems == []
    assert open_log(tmp_path).size == 600


def test_nothing_is_added_to_a_log_that_is_not_what_was_committed(copied: Path) -> None:
    path = max((copied / "log/tile/0").rglob("*.p/*"))
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Integrity):
        open_log(copied)


@pytest.mark.parametrize("gone", ["state", "log"])
def test_a_lost_half_is_not_taken_for_a_new_log(copied: Path, gone: str) -> None:
    target = copied / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(Integrity):
        open_log(copied)


def test_old_partial_tiles_are_removed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_KEEP_PARTIAL", 0.0)
    log = open_log(tmp_path)
    for _ in range(40):
        log.integrate(entries(log.size, log.size + 7), {})
    assert len(list((tmp_path / "log/tile").rglob("*.p/*"))) <= 6
    assert check(tmp_path).problems == []
