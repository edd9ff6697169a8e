"""The bank as people use it: every flow, races through the gateway, and its ledger in PostgreSQL by one setting."""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.integration.conftest import BANK, ROOT, Running, running
from tests.postgres import postgres
from tests.support import eventually, short_directory


def client(system: Running, role: str = "", nth: int = 0) -> httpx.Client:
    context = ssl.create_default_context(cafile=system.ca)
    headers = {"authorization": f"Bearer {system.token(role, nth)}"} if role else {}
    return httpx.Client(base_url=system.url, verify=context, headers=headers, timeout=20)


def deposit(system: Running, receiver: str, amount: int) -> dict[str, Any]:
    command = ("python", "-m", "deposit_agent", "--receiver", receiver, "--amount", str(amount))
    done = system.run("run", "deposit-agent", "--", *command, cwd=BANK)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def balance(http: httpx.Client, who: str) -> int:
    answer = http.get("/wallet", params={"user_id": who})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["balance"])


def test_every_flow_is_allowed_and_refused_as_it_should_be(bank: Running) -> None:
    done = bank.run("demo", "--json", timeout=180)
    report = json.loads(done.stdout)
    wrong = [flow for flow in report["flows"] if not flow["ok"]]
    assert not wrong
    assert done.returncode == 0, done.stderr
    seen = {(flow["flow"], flow["expected"]) for flow in report["flows"]}
    for number in range(1, 15):
        assert (f"F{number}", "deny") in seen
        assert number == 14 or (f"F{number}", "allow") in seen
    without_evidence = [f["title"] for f in report["flows"] if not f["audit"]]
    # Refused before there is anything to decide: no way leads there, or the command itself refuses the file.
    assert set(without_evidence) <= {"deposit as a person", "register a workload of another trust domain"}


def test_a_wallet_emptied_many_times_at_once_through_the_gateway(bank: Running) -> None:
    payer, receiver = bank.account("user", 1)["user_id"], bank.account("user", 0)["user_id"]
    with client(bank, "user", 1) as http:
        deposit(bank, payer, 1000)
        amount = min(balance(http, payer), 100_000)
        emptied = balance(http, payer) - amount

        def pay(number: int) -> int:
            body = {"receiver_id": receiver, "amount": amount}
            return http.post("/payments", json=body, headers={"idempotency-key": str(uuid.uuid4())}).status_code

        with ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(pay, range(12)))
        assert set(statuses) <= {201, 422, 429}, statuses
        assert statuses.count(201) <= (emptied + amount) // amount
        left = eventually(lambda: http.get("/wallet", params={"user_id": payer}).json().get("balance", -1) + 1)
        assert left - 1 == emptied + amount - statuses.count(201) * amount


def test_a_retried_payment_is_made_once(bank: Running) -> None:
    payer, receiver = bank.account("user")["user_id"], bank.account("user", 1)["user_id"]
    deposit(bank, payer, 500)
    with client(bank, "user") as http:
        before = balance(http, payer)
        headers = {"idempotency-key": str(uuid.uuid4())}
        first = http.post("/payments", json={"receiver_id": receiver, "amount": 5}, headers=headers)
        again = http.post("/payments", json={"receiver_id": receiver, "amount": 5}, headers=headers)
        other = http.post("/payments", json={"receiver_id": receiver, "amount": 6}, headers=headers)
        assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
        assert first.json() == again.json()
        assert balance(http, payer) == before - 5


@pytest.mark.skipif(shutil.which("node") is None, reason="Node isn't installed (Debian: nodejs)")
def test_three_lines_of_node_behind_five_lines_of_toml() -> None:
    app = ROOT / "examples" / "node-hello"
    assert len((app / "server.js").read_text().splitlines()) == 3
    assert len((app / "rempart.toml").read_text().splitlines()) == 5
    with running(app) as system:
        with client(system, "user") as http:
            answer = http.get("/hello")
            assert (answer.status_code, answer.text) == (200, f"hello {system.account('user')['user_id']}\n")
        with client(system) as http:
            assert http.get("/hello").status_code == 401
            assert http.get("/hello", headers={"x-rempart-subject": "root"}).status_code == 401
            assert http.get("/hello", headers={"authorization": "Bearer x.y.z"}).status_code == 401


def test_the_ledger_in_postgresql_by_one_setting() -> None:
    with postgres() as conninfo, short_directory("rb") as directory:
        host = dict(part.split("=", 1) for part in conninfo.split())["host"]
        app = Path(shutil.copytree(BANK, directory / "bank", ignore=shutil.ignore_patterns("__pycache__")))
        directory.chmod(0o755)
        file = app / "rempart.toml"
        lines = file.read_text().splitlines()
        place = next(n for n, line in enumerate(lines) if line.startswith("# env = { BANK_LEDGER"))
        lines[place] = f'env = {{ BANK_LEDGER = "postgresql://postgres@/postgres?host={host}" }}'
        file.write_text("\n".join(lines))
        with running(app) as system, client(system, "user") as http:
            payer, receiver = system.account("user")["user_id"], system.account("user", 1)["user_id"]
            put = deposit(system, payer, 1000)
            paid = http.post(
                "/payments", json={"receiver_id": receiver, "amount": 300}, headers={"idempotency-key": "k"}
            )
            assert paid.status_code == 201, paid.text
            assert balance(http, payer) == 700
            with psycopg.connect(conninfo) as connection:
                kept = connection.execute("SELECT id, kind, amount FROM transfers ORDER BY seq").fetchall()
            assert kept == [
                (put["transaction_id"], "deposit", 1000),
                (paid.json()["transaction_id"], "payment", 300),
            ]


def test_the_demo_needs_a_running_system() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=BANK, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "rempart demo" in done.stderr
    assert "Traceback" not in done.stderr
