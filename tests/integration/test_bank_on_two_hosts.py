"""The bank on one host, its deposit agent on another (a network namespace), behind a sidecar whose identity comes from
the agent there: the same generated Envoy, the same mTLS, the same decision, the same record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.agent_support import AgentProcess
from tests.integration.conftest import BANK, Running
from tests.integration.test_bank_services import balance, client
from tests.rough_relay import rough_relay
from tests.support import eventually, short_directory
from tests.two_hosts import OtherHost, other_host

from rempart.mesh.binary import envoy_command
from rempart.mesh.config import envoy_config
from rempart.mesh.model import Address, Egress, Sds, SidecarSettings, Upstream

AGENT = "spiffe://bank.example/deposit-agent"
WALLET = "spiffe://bank.example/wallet"


def join(bank: Running, directory: Path, there: OtherHost, port: int) -> AgentProcess:
    (directory / "bundle.json").write_text(bank.run("bundle", "export").stdout)
    made = bank.run("agent", "token", "--name", there.name, "--write", str(directory / "token"))
    assert made.returncode == 0, made.stderr
    arguments = ["--server", f"{there.here}:{port}", "--trust-domain", "bank.example"]
    arguments += ["--bundle", str(directory / "bundle.json"), "--join-token-file", str(directory / "token")]
    return AgentProcess(directory, arguments, there.prefix)


def register(bank: Running, agent: str) -> None:
    """Who runs on that host as root is the deposit agent: its sidecar there has its identity, as everywhere."""
    entry = {"spiffe_id": AGENT, "parent_id": agent, "selectors": ["unix:uid:0"]}
    done = bank.run("entry", "apply", "-", input=json.dumps({"entries": [entry]}))
    assert done.returncode == 0, done.stderr


def sidecar(agent: AgentProcess, wallet: Address) -> list[str]:
    """The command of a sidecar that leads to the wallet, and to nothing else."""
    run = agent.state / "run"
    (run / "envoy").mkdir(exist_ok=True)
    way = Egress(Address(path=str(run / "wallet.sock")), Upstream("wallet", wallet, WALLET))
    settings = SidecarSettings(
        name="deposit-agent",
        spiffe_id=AGENT,
        run_dir=str(run / "envoy"),
        certificates=Sds(str(agent.workload_api)),
        egress=(way,),
    )
    path = agent.directory / "envoy.json"
    path.write_text(json.dumps(envoy_config(settings)))
    return envoy_command(path, concurrency=1)


def deposit(agent: AgentProcess, there: OtherHost, receiver: str) -> dict[str, Any]:
    way = "http+unix://" + quote(str(agent.state / "run" / "wallet.sock"), safe="")
    environment = {
        "REMPART_SERVICE": "deposit-agent",
        "REMPART_TRUST_DOMAIN": "bank.example",
        "REMPART_WALLET_URL": way,
        "PYTHONPATH": str(BANK),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    command = [*there.prefix, sys.executable, "-m", "deposit_agent", "--receiver", receiver, "--amount", "250"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return {"exit": done.returncode, "error": done.stderr, **json.loads(done.stdout or "{}")}


def test_the_deposit_agent_works_from_another_host(bank: Running) -> None:
    host, _, port = str(bank.status["agents"]).rpartition(":")
    mtls = int(bank.mtls("wallet").rpartition(":")[2])
    with (
        other_host() as there,
        # The bank listens on its loopback: these stand for the addresses that another host would reach.
        rough_relay(there.here, (host, int(port)), delay_s=0.0, loss=0.0) as to_server,
        rough_relay(there.here, ("127.0.0.1", mtls), delay_s=0.0, loss=0.0) as to_wallet,
        short_directory("rpag") as directory,
    ):
        agent = join(bank, directory, there, to_server.port)
        agent.start()
        name = agent.status()["spiffe_id"]
        command = sidecar(agent, Address(host=there.here, port=to_wallet.port))
        envoy = subprocess.Popen([*there.prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            receiver = bank.account("user")["user_id"]
            refused = eventually(lambda: _answered(agent, there, receiver), within=20)
            assert refused["exit"] != 0  # the sidecar has no identity: nobody registered it
            register(bank, name)
            with client(bank, "user") as http:
                before = balance(http, receiver)
                done = eventually(lambda: _done(agent, there, receiver), within=30)
                assert balance(http, receiver) == before + 250
            decision = json.loads(bank.run("audit", "show", done["decision_id"], "--json").stdout)
            assert AGENT in json.dumps(decision)
            bank.run("agent", "ban", name)
            eventually(lambda: not agent.status()["entries"], within=10)
        finally:
            envoy.terminate()
            envoy.wait(10)
            agent.stop()
            bank.run("agent", "unban", name)
            bank.run("agent", "evict", name)


def _answered(agent: AgentProcess, there: OtherHost, receiver: str) -> dict[str, Any] | None:
    answer = deposit(agent, there, receiver)
    return answer if "code" in answer else None


def _done(agent: AgentProcess, there: OtherHost, receiver: str) -> dict[str, Any] | None:
    answer = deposit(agent, there, receiver)
    return answer if answer["exit"] == 0 else None


pytestmark = pytest.mark.timeout(200)
