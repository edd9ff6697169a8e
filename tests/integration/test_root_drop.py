"""As root every process has a user and a view of its own; as an ordinary user the same system runs under that user."""

from __future__ import annotations

import json
import os
import ssl
import sys
from pathlib import Path

import httpx
import pytest
from tests.integration.conftest import Running, rempart, running, write_tiny
from tests.support import short_directory

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give root up")
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


def facts(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def processes(system: Running) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in system.now()["processes"]}


@root_only
def test_every_process_has_a_user_of_its_own_without_any_capability(tiny: Running) -> None:
    uids = {}
    for name, pid in processes(tiny).items():
        told = facts(pid)
        uid = set(told["Uid"].split())
        assert len(uid) == 1
        uids[name] = uid.pop()
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(told[kind], 16) == 0, (name, kind)
        assert told["NoNewPrivs"] == "1"
    assert "0" not in uids.values()
    assert len(set(uids.values())) == len(uids)


@root_only
def test_a_gateway_below_1024_keeps_the_one_capability_for_it() -> None:
    with (
        short_directory("rl") as directory,
        running(write_tiny(directory / "app"), "--listen", "127.0.0.1:843") as system,
    ):
        gateway = processes(system)["gateway"]
        assert {facts(gateway)[kind] for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {f"{1 << 10:016x}"}
        assert "0" not in facts(gateway)["Uid"].split()
        assert (
            httpx.get(f"{system.url}/nothing", verify=ssl.create_default_context(cafile=system.ca)).status_code == 404
        )


@root_only
@pytest.mark.parametrize("name", ["hello", "hello-sidecar", "people", "pdp", "gateway"])
def test_a_process_sees_only_its_own_parts_of_the_state(tiny: Running, name: str) -> None:
    seen = Path(f"/proc/{processes(tiny)[name]}/root{tiny.state}")
    assert not (seen / "secrets").exists()
    assert not (seen / "run" / "control.sock").exists()
    assert not (seen / "run" / "supervisor.sock").exists()
    assert not (seen / "run" / "admin").exists()
    assert not (seen / "demo-accounts.json").exists()
    others = {"identity", "people", "pdp", "sequencer", "hello", "observer"} - {name}
    assert not any((seen / "data" / other).exists() for other in others)
    assert not any((seen / "journals" / other).exists() for other in others)


@root_only
def test_secrets_stay_the_operators(tiny: Running) -> None:
    for path in (tiny.state, tiny.state / "secrets", tiny.state / "secrets" / "master.key"):
        assert path.stat().st_uid == 0
        assert path.stat().st_mode & 0o077 == 0


@root_only
def test_another_user_cannot_reach_the_service_around_its_sidecar(tiny: Running) -> None:
    script = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(tiny.state)!r} + '/run/svc/hello/app.sock')"
    )
    import subprocess

    command = [os.path.realpath(sys.executable), "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **NOBODY)
    assert "PermissionError" in done.stderr
    client = tiny.run("run", "agent", "--", sys.executable, "-c", script)
    assert client.returncode != 0
    assert "Error" in client.stderr


@root_only
def test_an_ordinary_user_runs_the_same_system_and_is_told_the_risk() -> None:
    with short_directory("ru") as directory:
        app = write_tiny(directory / "app")
        os.chmod(directory, 0o755)
        home = directory / "home"
        home.mkdir()
        os.chown(home, 65534, 65534)
        with running(app, state=home / "s", cwd=home, env={"HOME": str(home)}, **NOBODY) as system:
            done = rempart("status", "--json", state=home / "s", cwd=home, **NOBODY)
            status = json.loads(done.stdout)
            assert status["ready"]
            assert {facts(one["pid"])["Uid"].split()[0] for one in status["processes"]} == {"65534"}
            assert any("one user" in risk["risk"] for risk in status["risks"])
            assert system.token("user")
            refused = rempart("up", str(app), state=home / "s")
            assert (refused.returncode, "foreign_state" in refused.stderr) == (2, True)


@root_only
def test_what_a_closed_directory_holds_is_reached_without_opening_it() -> None:
    with short_directory("rc") as directory:
        app = write_tiny(directory / "app")
        os.chmod(app, 0o700)
        (directory / "letter").write_text("private")
        with running(app, state=directory / "s") as system:
            root = Path(f"/proc/{processes(system)['hello']}/root")
            assert (root / str(app)[1:] / "hello.py").exists()
            assert not (root / str(directory)[1:] / "letter").exists()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert app.stat().st_mode & 0o777 == 0o700
