"""`rempart server run` and `rempart agent …` as an operator types them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent_support import AgentProcess
from tests.integration.conftest import Running, rempart
from tests.support import eventually, free_port, short_directory

DOMAIN = "servers.example"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Running, int]]:
    with short_directory() as directory:
        port = free_port()
        command = ("server", "run", "--trust-domain", DOMAIN, "--listen", f"127.0.0.1:{port}", "--detach", "--json")
        done = rempart(*command, state=directory / "s")
        assert done.returncode == 0, done.stderr
        try:
            yield Running(directory / "s", json.loads(done.stdout)), port
        finally:
            rempart("down", state=directory / "s", timeout=60)


@pytest.fixture
def agent(server: tuple[Running, int]) -> Iterator[AgentProcess]:
    system, port = server
    with short_directory("rpag") as directory:
        (directory / "bundle.pem").write_text(system.run("bundle", "export", "--format", "pem").stdout)
        made = system.run("agent", "token", "--write", str(directory / "token"))
        assert made.returncode == 0, made.stderr
        arguments = ["--server", f"localhost:{port}", "--trust-domain", DOMAIN]
        arguments += ["--bundle", str(directory / "bundle.pem"), "--join-token-file", str(directory / "token")]
        process = AgentProcess(directory, arguments)
        process.start()
        try:
            yield process
        finally:
            process.stop()


def test_a_server_is_two_processes_and_says_where_agents_reach_it(server: tuple[Running, int]) -> None:
    system, port = server
    assert {one["name"] for one in system.status["processes"]} == {"identity", "sequencer"}
    assert system.status["agents"] == f"127.0.0.1:{port}"
    assert stat.S_IMODE(system.state.stat().st_mode) & 0o066 == 0
    assert system.run("audit", "verify").returncode == 0


def test_a_servers_keys_are_listed_and_its_roots_replaced(server: tuple[Running, int]) -> None:
    """A new root is made by a process of its own, which gives it back sealed."""
    system, _ = server
    listed = json.loads(system.run("keys", "list", "--json").stdout)
    assert listed["keys"] == []
    assert {one["kind"] for one in listed["authorities"]} == {"spiffe", "web", "jwt"}
    shown = system.run("keys", "list")
    assert shown.returncode == 0, shown.stderr
    assert "web" in shown.stdout
    before = sorted(file.name for file in (system.state / "secrets").glob("web-root*.sealed"))
    replaced = system.run("keys", "rotate", "--authority", "web-root", "--compromised", "--overlap", "2", timeout=120)
    assert replaced.returncode == 0, replaced.stderr
    after = sorted(file.name for file in (system.state / "secrets").glob("web-root*.sealed"))
    assert len(before) == len(after) == 1
    assert before != after


def test_an_agent_is_listed_shown_banned_and_evicted(server: tuple[Running, int], agent: AgentProcess) -> None:
    system, _ = server
    name = agent.status()["spiffe_id"]
    short = name.rpartition("/rempart/agent/")[2]
    entry = {"spiffe_id": f"spiffe://{DOMAIN}/batch", "parent_id": name, "selectors": [f"unix:uid:{os.getuid()}"]}
    assert system.run("entry", "apply", "-", input=json.dumps({"entries": [entry]})).returncode == 0
    assert name in system.run("agent", "list").stdout
    shown = json.loads(system.run("agent", "show", short, "--json").stdout)
    assert [one["spiffe_id"] for one in shown["entries"]] == [f"spiffe://{DOMAIN}/batch"]
    fetched = eventually(lambda: _fetched(agent), within=10)
    assert fetched["svids"][0]["spiffe_id"] == f"spiffe://{DOMAIN}/batch"
    assert rempart("agent", "status", state=agent.state).returncode == 0
    assert json.loads(system.run("agent", "ban", short, "--json").stdout)["banned"] is True
    eventually(lambda: not agent.status()["entries"], within=5)
    assert rempart("svid", "x509", state=agent.state).returncode == 1
    assert system.run("agent", "unban", short).returncode == 0
    assert system.run("agent", "evict", short).returncode == 0
    assert system.run("agent", "show", short).returncode == 1
    assert agent.process is not None
    assert agent.process.wait(60) == 1
    assert rempart("agent", "status", state=agent.state).returncode == 3
    types = {
        one["type"] for one in json.loads(system.run("audit", "search", "--limit", "100", "--json").stdout)["events"]
    }
    assert {"workloads.agent_joined", "workloads.agent_changed", "workloads.agent_refused"} <= types


def _fetched(agent: AgentProcess) -> dict[str, list[dict[str, str]]] | None:
    done = rempart("svid", "x509", "--json", state=agent.state)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("server", "run"), 2),
        (("server", "run", "--trust-domain", "Not A Domain"), 2),
        (("server", "run", "--trust-domain", "a.example", "--listen", "nowhere"), 2),
        (("agent", "token"), 3),
        (("agent", "list"), 3),
        (("agent", "status"), 3),
        (("agent", "run", "--server", "a:1", "--trust-domain", "a.example"), 2),
        (("agent", "run", "--server", "nonsense", "--trust-domain", "a.example", "--insecure-bootstrap"), 2),
        (("agent", "run", "--server", "127.0.0.1:1", "--trust-domain", "a.example", "--bundle", "/nonexistent"), 2),
        (("agent", "run", "--server", "127.0.0.1:1", "--trust-domain", "a.example", "--insecure-bootstrap"), 1),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    done = rempart(*arguments, "--json", state=tmp_path / "s")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    command = ("agent", "run", "--server", f"127.0.0.1:{free_port()}", "--trust-domain", "a.example")
    evidence = ("--insecure-bootstrap", "--join-token-file", str(tmp_path / "token"))
    done = rempart(*command, *evidence, "--json", state=tmp_path / "s")
    assert done.returncode == 3
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "server_away"


def test_a_token_file_is_never_overwritten(server: tuple[Running, int], tmp_path: Path) -> None:
    system, _ = server
    (tmp_path / "token").write_text("mine")
    done = system.run("agent", "token", "--write", str(tmp_path / "token"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (tmp_path / "token").read_text() == "mine"
