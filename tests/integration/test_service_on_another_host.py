"""The bank over two hosts (network namespaces): the wallet, its sidecar and a PDP of its own on the second one. All
flows run, the link is cut for a while, and the one record on the first host has everything once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import BANK, Running, running
from tests.support import eventually, free_port, short_directory
from tests.two_hosts import OtherHost, other_host

AGENT = "spiffe://bank.example/rempart/agent/join_token/host-b"
WALLET = 'name = "wallet"\n'
BATCH = '[[client]]\nname = "batch"\nhost = "host-b"\ncalls = ["wallet"]\n\n'
HOST = '[[host]]\nname = "host-b"\naddress = "{there}"\n\n'


@dataclass(frozen=True)
class Split:
    """`near` has the gateway, `far` the wallet."""

    near: Running
    far: Running
    link: OtherHost
    app: Path
    port: int

    def there(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`rempart` on the second host."""
        return on(self.link, *arguments, state=self.far.state)


def on(link: OtherHost, *arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    command = [*link.prefix, str(Path(sys.prefix) / "bin" / "rempart"), *arguments, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def application(directory: Path, link: OtherHost, port: int) -> Path:
    """The bank with its wallet on the other host."""
    app = directory / "bank"
    shutil.copytree(BANK, app, ignore=shutil.ignore_patterns("__pycache__", ".rempart"))
    settings = (app / "rempart.toml").read_text()
    settings = settings.replace(WALLET, WALLET + 'host = "host-b"\n', 1)
    settings = settings.replace('listen = "127.0.0.1:0"', f'listen = "{link.here}:{port}"')
    settings = settings.replace("[policy]", HOST.format(there=link.there) + BATCH + "[policy]")
    (app / "rempart.toml").write_text(settings)
    return app


@contextlib.contextmanager
def second_host(near: Running, app: Path, link: OtherHost, port: int, directory: Path) -> Iterator[Running]:
    bundle, token, state = directory / "bundle.json", directory / "token", directory / "b"
    bundle.write_text(near.run("bundle", "export").stdout)
    made = near.run("agent", "token", "--name", "host-b", "--write", str(token))
    assert made.returncode == 0, made.stderr
    joining = ("--server", f"{link.here}:{port}", "--bundle", str(bundle), "--join-token-file", str(token))
    done = on(link, "agent", "run", "--app", str(app), *joining, "--detach", "--json", state=state)
    try:
        assert done.returncode == 0, done.stderr
        yield Running(state, json.loads(done.stdout))
    finally:
        on(link, "down", state=state)


@pytest.fixture(scope="module")
def split() -> Iterator[Split]:
    port = free_port()
    with other_host() as link, short_directory("rp2h") as directory:
        app = application(directory, link, port)
        with (
            running(app, state=directory / "a") as near,
            second_host(near, app, link, port, directory) as far,
        ):
            yield Split(near, far, link, app, port)


def recorded(split: Split, *arguments: str) -> list[dict[str, Any]]:
    done = split.near.run("audit", "search", "--limit", "1000", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["events"])


def refused_deposit(split: Split) -> str:
    """A caller on the second host asks the wallet there for what only the deposit agent may; the decision's id."""
    command = (sys.executable, "-m", "deposit_agent", "--receiver", "usr_nobody", "--amount", "5")
    environment = {**os.environ, "PYTHONPATH": str(BANK)}
    rempart = str(Path(sys.prefix) / "bin" / "rempart")
    argv = [*split.link.prefix, rempart, "run", "--state", str(split.far.state), "batch", "--", *command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=BANK, env=environment)
    answer = json.loads(done.stdout or "{}")
    assert answer.get("code") == "workload_not_allowed", (done.stdout, done.stderr)
    return str(answer["decision_id"])


def page(state: Path, socket: str, path: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(state / socket)), timeout=10) as client:
        return client.get(f"http://there{path}")


def policy_version(system: Running) -> str:
    return str(page(system.state, "run/admin/pdp.sock", "/policy").json()["version"])


def test_all_flows_of_the_bank_run_over_two_hosts(split: Split) -> None:
    played = split.near.run("demo", "--json", timeout=120)
    failed = [json.dumps(flow) for flow in json.loads(played.stdout)["flows"] if not flow["ok"]]
    assert played.returncode == 0, (failed, played.stderr)
    wallet = next(one for one in split.near.now()["services"] if one["name"] == "wallet")
    assert wallet["host"] == "host-b"
    assert wallet["mtls"].startswith(f"https://{split.link.there}:")
    assert not wallet["pids"]
    assert next(one for one in split.far.now()["services"] if one["name"] == "wallet")["pids"]
    status = split.there("agent", "status", "--json")
    assert json.loads(status.stdout)["spiffe_id"] == AGENT, status.stderr
    moved = eventually(lambda: recorded(split, "--type", "money.moved"), within=60)
    assert {event["source"] for event in moved} == {"host-agent@join_token/host-b"}


def test_with_the_link_cut_it_decides_durably_and_the_record_follows_once(split: Split) -> None:
    token = split.near.token("user")
    person = split.near.account("user")["user_id"]
    with httpx.Client(verify=ssl.create_default_context(cafile=split.near.ca), timeout=20) as http:
        wallet = f"{split.near.url}/wallet?user_id={person}"
        headers = {"authorization": f"Bearer {token}"}
        assert http.get(wallet, headers=headers).status_code == 200
        split.link.cut()
        try:
            decisions = [refused_deposit(split)]
            assert http.get(wallet, headers=headers).status_code in (503, 504)
            agent = split.far.pid("host-agent")
            assert agent is not None
            os.kill(agent, signal.SIGKILL)
            eventually(lambda: split.far.pid("host-agent") not in (None, agent), within=30)
            decisions.append(refused_deposit(split))
            known = {event["id"] for event in recorded(split, "--type", "decision")}
            assert known.isdisjoint(decisions)
        finally:
            split.link.mend()
        eventually(lambda: http.get(wallet, headers=headers).status_code == 200, within=60)
    ids = eventually(lambda: _all_there(split, decisions), within=90)
    assert all(ids.count(one) == 1 for one in decisions)
    shown = split.near.run("audit", "show", decisions[0], "--json")
    assert AGENT in shown.stdout, shown.stderr
    verified = split.near.run("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stdout


def _all_there(split: Split, decisions: list[str]) -> list[str]:
    ids = [event["id"] for event in recorded(split, "--type", "decision")]
    return ids if set(decisions) <= set(ids) else []


def test_a_changed_policy_and_an_ended_session_reach_the_second_host(split: Split) -> None:
    before = policy_version(split.far)
    assert before == policy_version(split.near)
    rego = next((split.app / "policy").rglob("*.rego"))
    rego.write_text(rego.read_text() + "\n# changed\n")
    eventually(lambda: policy_version(split.near) != before, within=30)
    eventually(lambda: policy_version(split.far) == policy_version(split.near), within=30)

    person = split.near.account("user", 1)["user_id"]
    assert split.near.run("user", "disable", person).returncode == 0
    try:
        told = split.far.state / "data" / "pdp" / "epochs.json"
        eventually(lambda: told.exists() and person in told.read_text(), within=30)
    finally:
        split.near.run("user", "enable", person)


def test_another_rempart_toml_is_refused(split: Split, tmp_path: Path) -> None:
    other = tmp_path / "bank"
    shutil.copytree(split.app, other)
    with (other / "rempart.toml").open("a") as settings:
        settings.write("# another one\n")
    with short_directory("rpoth") as directory:
        made = split.near.run("agent", "token", "--name", "host-b", "--write", str(directory / "token"))
        assert made.returncode == 0, made.stderr
        joining = ("--server", f"{split.link.here}:{split.port}", "--bundle", str(split.app.parent / "bundle.json"))
        with_token = (*joining, "--join-token-file", str(directory / "token"))
        done = on(split.link, "agent", "run", "--app", str(other), *with_token, state=directory / "s")
    assert done.returncode == 2
    assert "bring the same file to all hosts" in done.stderr


pytestmark = pytest.mark.timeout(300)
