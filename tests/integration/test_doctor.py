"""`rempart doctor` in a whole system: each thing that can keep a process from its identity is found and named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Running, rempart, running, write_tiny
from tests.support import eventually, short_directory

MINE = f"unix:uid:{os.geteuid()}"


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with short_directory() as directory, running(write_tiny(directory / "app"), state=directory / "s") as started:
        yield started


@pytest.fixture
def sleeper() -> Iterator[int]:
    environment = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": "unix:///nowhere.sock"}
    process = subprocess.Popen(["sleep", "100"], env=environment)
    yield process.pid
    process.kill()
    process.wait()


def ask(system: Running, *arguments: str) -> tuple[int, Any]:
    done = system.run("doctor", *arguments, "--json")
    return done.returncode, json.loads(done.stdout or done.stderr)


def found(answer: Any, about: str) -> Any:
    return next(check for check in answer["checks"] if check["about"] == about)


def apply(system: Running, directory: Path, *entries: dict[str, Any]) -> None:
    file = directory / "entries.json"
    file.write_text(json.dumps({"entries": entries}))
    assert system.run("entry", "apply", str(file), "--prune").returncode == 0


def test_a_well_installation_is_said_to_be_well(system: Running) -> None:
    code, answer = ask(system)
    assert code == 0, answer
    assert {check["ok"] for check in answer["checks"]} == {True}
    assert "authority spiffe" in system.run("doctor").stdout


def test_a_process_of_ours_gets_its_identity_and_can_reach_the_socket(system: Running) -> None:
    pid = system.pid("hello")
    assert pid is not None
    code, answer = ask(system, str(pid))
    assert code == 0, answer
    assert [one["spiffe_id"] for one in answer["process"]["granted"]] == ["spiffe://tiny.example/hello"]
    assert "supervisor:service:hello" in answer["process"]["selectors"]
    assert found(answer, "socket")["ok"]


def test_the_nearest_entries_are_named_with_what_is_missing(system: Running, sleeper: int, tmp_path: Path) -> None:
    wanted = {"far": ["unix:uid:4999", MINE], "near": [MINE, "unix:path:/usr/bin/other", f"unix:gid:{os.getegid()}"]}
    wanted["stranger"] = ["unix:uid:4998"]
    apply(system, tmp_path, *({"spiffe_id": f"spiffe://tiny.example/{k}", "selectors": v} for k, v in wanted.items()))
    code, answer = ask(system, str(sleeper))
    assert code == 1
    assert answer["process"]["granted"] == []
    near, far = answer["process"]["nearest"]
    assert (near["spiffe_id"], near["matched"], near["of"]) == ("spiffe://tiny.example/near", 2, 3)
    assert near["missing"] == [{"selector": "unix:path:/usr/bin/other", "has": ["unix:path:/usr/bin/sleep"]}]
    assert far["missing"] == [{"selector": "unix:uid:4999", "has": [MINE]}]
    assert found(answer, f"process {sleeper}")["ok"] is False
    assert found(answer, "environment")["ok"] is False  # it was told another socket
    said = system.run("doctor", str(sleeper))
    assert "wants unix:path:/usr/bin/other, has unix:path:/usr/bin/sleep" in said.stdout
    shown = system.run("entry", "show", "spiffe://tiny.example/near").stdout
    assert "selector          unix:path:/usr/bin/other" in shown
    refused = system.run("audit", "search", "--type", "workloads.svid_refused", "--json")
    assert refused.returncode == 0
    assert str(sleeper) not in refused.stdout  # asking why is no refusal


def test_an_expired_entry_is_told_to_be_one(system: Running, sleeper: int, tmp_path: Path) -> None:
    entry = {"spiffe_id": "spiffe://tiny.example/past", "selectors": [MINE], "expires_at": "2001-01-01T00:00:00Z"}
    apply(system, tmp_path, entry)
    code, answer = ask(system, str(sleeper))
    assert code == 1
    assert [(one["expired"], one["missing"]) for one in answer["process"]["nearest"]] == [(True, [])]


def test_a_socket_that_the_process_may_not_reach(system: Running, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user's process")
    tmp_path.chmod(0o755)
    stranger = subprocess.Popen(["sleep", "100"], user=65534, group=65534, extra_groups=[])
    try:
        apply(system, tmp_path, {"spiffe_id": "spiffe://tiny.example/nobody", "selectors": ["unix:uid:65534"]})
        hidden = system.state / "run" / "workload.sock"
        mode = hidden.stat().st_mode
        hidden.chmod(0o600)
        try:
            code, answer = ask(system, str(stranger.pid))
        finally:
            hidden.chmod(mode)
        assert code == 1
        assert answer["process"]["granted"]
        assert "uid 65534 may not" in found(answer, "socket")["found"]
    finally:
        stranger.kill()
        stranger.wait()


def test_no_such_process_and_nothing_running(system: Running, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert system.run("doctor", str(ended.pid)).returncode == 1
    assert "no_such_process" in system.run("doctor", str(ended.pid)).stderr
    assert rempart("doctor", state=tmp_path).returncode == 3


def test_a_process_that_is_down_is_named(system: Running) -> None:
    pid = system.pid("observer")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert ask(system)[0] in (0, 1)  # a stopped process holds nobody up
    finally:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: ask(system)[0] == 0, within=30)


def test_the_bundle_is_shown_with_what_signs_below_it(system: Running) -> None:
    said = system.run("bundle", "show").stdout
    assert said.startswith("sequence 1")
    assert said.count("x509-svid") == 1
    assert "below root" in said
