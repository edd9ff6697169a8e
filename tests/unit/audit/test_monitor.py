"""A log that lies is found out from outside: rewound, split, rewritten, unsigned, cut; one that only grows is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support_audit import SIGNER, open_log, storage

from rempart.audit.log import MerkleLog
from rempart.audit.log_keys import LogKeyRing
from rempart.audit.monitor import Memory, Monitor, load_memory, save_memory
from rempart.backends.log_files import DirectoryLog
from rempart.crypto.signing import NoteSigner, verify_ed25519
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

KEY = SIGNER.verifier_key


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(start, end)]


def watch(state: Path, memory: Memory | None = None, **more: float) -> Monitor:
    options = {"recheck": 100, **more}
    return Monitor(DirectoryLog(state / "log"), memory or Memory([KEY]), verify_ed25519, **options)  # type: ignore[arg-type]  # numbers


def kinds(monitor: Monitor, now: float = 0.0) -> list[str]:
    return [finding.kind for finding in monitor.look(now).findings]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.integers(0, 600), max_size=6))
def test_however_a_log_grows_it_is_followed(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    state = tmp_path_factory.mktemp("log")
    log, memory = open_log(state), Memory([KEY])
    for step in steps:
        log.integrate(entries(log.size, log.size + step), {})
        monitor = watch(state, memory)
        look = monitor.look(0.0)
        assert (look.findings, look.size, look.added) == ([], log.size, step)
        memory = monitor.memory
        assert (memory.size, memory.root if log.size else log.root) == (log.size, log.root)


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Path, Monitor]:
    """700 events, all of them seen."""
    log = open_log(tmp_path)
    log.integrate(entries(0, 700), {})
    monitor = watch(tmp_path)
    assert kinds(monitor) == []
    return tmp_path, monitor


def test_a_rewound_log_is_found(watched: tuple[Path, Monitor], tmp_path: Path) -> None:
    state, monitor = watched
    shutil.copytree(state / "log", state / "before")
    open_log(state).integrate(entries(700, 1000), {})
    assert kinds(monitor) == []
    shutil.rmtree(state / "log")
    shutil.move(state / "before", state / "log")
    assert kinds(monitor) == ["rewound"]


@pytest.mark.parametrize("size", [300, 512, 700, 900])
def test_another_history_is_found_whatever_its_size(watched: tuple[Path, Monitor], size: int) -> None:
    state, monitor = watched
    shutil.rmtree(state / "log")
    (state / "state").unlink()
    open_log(state).integrate([b"other", *entries(1, size)], {})
    assert kinds(monitor)[0] in ("split", "rewritten")


def test_an_entry_rewritten_in_place_is_found(watched: tuple[Path, Monitor]) -> None:
    state, monitor = watched
    path = state / "log/tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b"entry 300", b"entry 3oo"))
    assert kinds(monitor) == ["rewritten"]


def test_a_rewritten_entry_of_the_last_bundle_is_found_when_the_log_grows(watched: tuple[Path, Monitor]) -> None:
    state, monitor = watched
    shutil.rmtree(state / "log")
    (state / "state").unlink()
    changed = entries(0, 800)
    changed[650] = b"something else"
    open_log(state).integrate(changed, {})
    assert kinds(monitor) == ["rewritten"]


def test_a_checkpoint_of_another_key_or_of_nobody_is_found(watched: tuple[Path, Monitor]) -> None:
    state, monitor = watched
    path = state / "log/checkpoint"
    honest = path.read_text()
    path.write_text(NoteSigner(SIGNER.name, bytes(32)).sign(honest.partition("\n\n")[0] + "\n"))
    assert kinds(monitor) == ["unsigned"]
    path.write_bytes(b"\xff" * 100)
    assert kinds(monitor) == ["unsigned"]
    path.write_text(honest)
    assert kinds(monitor) == []


def test_missing_events_are_found_and_deleted_ones_are_told(watched: tuple[Path, Monitor]) -> None:
    state, _ = watched
    (state / "log/tile/entries/001").unlink()
    look = watch(state).look(0.0)
    assert (look.findings, look.unread, look.size) == ([], 256, 700), "retention deletes events, never hashes"
    (state / "log/tile/0/001").unlink()
    assert kinds(watch(state)) == ["incomplete"]


def test_a_log_that_stands_still_and_one_that_is_away(watched: tuple[Path, Monitor]) -> None:
    state, _ = watched
    monitor = watch(state, stale_after=60)
    assert kinds(monitor, 1000.0) == []
    assert kinds(monitor, 1061.0) == ["stale"]
    (state / "log/checkpoint").unlink()
    assert kinds(monitor, 1062.0) == ["unreachable", "stale"]


def test_it_learns_the_next_key_from_the_log_and_from_nowhere_else(tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    ring = LogKeyRing(tmp_path / "keys", SIGNER.name, bytes(32), clock, has_log=False)
    log = MerkleLog(storage(tmp_path), ring)
    monitor = watch(tmp_path, Memory([ring.verifier_key]))

    def announce(key: str, source: str = "sequencer") -> None:
        event = Event(type=EventType.LOG_KEY_ROTATED, at=1.0, success=True, after={"key": key})
        log.integrate([encode(event, source)], {})

    proposed = ring.propose()
    announce(NoteSigner(SIGNER.name, bytes(32)).verifier_key, source="pdp")
    announce(NoteSigner("another.example/log", bytes(32)).verifier_key)
    announce(proposed.verifier)
    assert monitor.look(0.0).new_keys == [proposed.verifier]
    ring.adopt(proposed, overlap=0)
    log.integrate(entries(0, 5), {})
    assert kinds(monitor) == []
    stranger = watch(tmp_path, Memory([ring.keys[0].verifier]))
    assert kinds(stranger) == ["unsigned"], "who did not see the announcement must be given the key"


@pytest.mark.parametrize("inside", ["[" * 60_000, '{"a":' * 12_000, '{"unmapped":[]}', "\\ud800", ""])
def test_an_event_that_looks_like_an_announcement_and_is_none_stops_nothing(tmp_path: Path, inside: str) -> None:
    log = open_log(tmp_path)
    log.integrate([f'{{"type":"{EventType.LOG_KEY_ROTATED}","x":{inside}'.encode()], {})
    look = watch(tmp_path).look(0.0)
    assert (look.findings, look.added, look.new_keys) == ([], 1, [])


def test_what_was_seen_is_kept_and_of_another_log_refused(watched: tuple[Path, Monitor]) -> None:
    state, monitor = watched
    path = state / "memory"
    save_memory(path, monitor.memory)
    assert load_memory(path, KEY + "\n") == monitor.memory
    with pytest.raises(BadInput):
        load_memory(path, NoteSigner(SIGNER.name, bytes(32)).verifier_key)
    for damaged in (b"{}", path.read_bytes().replace(b'"size":700', b'"size":7000')):
        path.write_bytes(damaged)
        with pytest.raises(BadInput):
            load_memory(path, KEY)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rempart.cli.main import main; main()", "audit", "monitor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_says_it_by_its_exit_code_and_keeps_what_it_was_shown(watched: tuple[Path, Monitor]) -> None:
    state, _ = watched
    (state / "log.vkey").write_text(KEY + "\n")
    memory = state / "seen"
    arguments = [str(state / "log"), "--key", str(state / "log.vkey"), "--memory", str(memory), "--once", "--json"]
    right = run(*arguments)
    assert right.returncode == 0, right.stderr
    assert json.loads(right.stdout)["size"] == 700
    seen = memory.read_bytes()
    shutil.rmtree(state / "log")
    assert run(*arguments).returncode == 3
    (state / "state").unlink()
    open_log(state).integrate([b"other", *entries(1, 700)], {})
    lied = run(*arguments)
    assert lied.returncode == 1
    assert [finding["kind"] for finding in json.loads(lied.stdout)["findings"]] == ["split"]
    assert memory.read_bytes() == seen
    evidence = (state / "seen.evidence").read_text()
    assert evidence.count("\n700\n") == 2, "both checkpoints of 700 events"
