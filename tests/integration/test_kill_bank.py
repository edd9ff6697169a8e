"""Payments under a hail of `kill -9`: no cent is created or lost, and a payment that was answered was made once."""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.integration.conftest import BANK, Running, running
from tests.support import eventually

ROUNDS = 12
DEPOSIT, AMOUNT = 100_000, 7
VICTIMS = ("wallet", "payment", "wallet-sidecar", "payment-sidecar", "pdp", "gateway", "sequencer", "people")


@pytest.fixture(scope="module")
def victim() -> Iterator[Running]:
    with running(BANK) as system:
        yield system


class Payer:
    """Pays one amount after the other; each key is sent again until it was answered."""

    def __init__(self, system: Running, receiver: str) -> None:
        self.system, self.receiver = system, receiver
        self.token = system.token("user")
        self.paid: set[str] = set()
        self.odd: list[tuple[int, str]] = []
        self.decisions: list[str] = []
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Payer:
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self.stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            key = f"kill-test-{number}"
            answer = eventually(lambda key=key: self._pay(key), within=30, every=0.15, why=f"{key} was never answered")
            if answer.status_code == 201:
                self.paid.add(answer.json()["transaction_id"])
                self.decisions.append(answer.headers["x-rempart-decision"])
            else:
                self.odd.append((answer.status_code, answer.text))

    def _pay(self, key: str) -> httpx.Response | None:
        context = ssl.create_default_context(cafile=self.system.ca)
        headers = {"authorization": f"Bearer {self.token}", "idempotency-key": key}
        body = {"receiver_id": self.receiver, "amount": AMOUNT}
        try:
            answer = httpx.post(f"{self.system.url}/payments", json=body, headers=headers, verify=context, timeout=5)
        except httpx.TransportError:
            return None
        time.sleep(0.1)  # a steady load, well below what one person may send
        return None if answer.status_code >= 500 or answer.status_code in (401, 429) else answer


def wallet(system: Running, nth: int) -> dict[str, Any]:
    person, context = system.account("user", nth), ssl.create_default_context(cafile=system.ca)
    answer = httpx.get(
        f"{system.url}/wallet?user_id={person['user_id']}",
        headers={"authorization": f"Bearer {system.token('user', nth)}"},
        verify=context,
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_no_cent_is_created_or_lost(victim: Running) -> None:
    alice, bob = victim.account("user", 0)["user_id"], victim.account("user", 1)["user_id"]
    command = ("python", "-m", "deposit_agent", "--receiver", alice, "--amount", str(DEPOSIT))
    done = victim.run("run", "deposit-agent", "--", *command, cwd=BANK)
    assert done.returncode == 0, done.stdout + done.stderr
    chance = random.Random(11)
    with Payer(victim, bob) as payer:
        for _ in range(ROUNDS):
            name = chance.choice(VICTIMS)
            pid = victim.pid(name)
            assert pid is not None
            paid = len(payer.paid)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: victim.now()["ready"], within=15, every=0.1, why=f"{name} is not back")
            eventually(lambda before=paid: len(payer.paid) > before, within=15, why=f"no payment after killing {name}")
    assert payer.odd == []
    mine, theirs = wallet(victim, 0), wallet(victim, 1)
    assert mine["balance"] + theirs["balance"] == DEPOSIT
    assert theirs["balance"] == AMOUNT * len(payer.paid)
    for decision in (payer.decisions[0], payer.decisions[-1]):
        eventually(lambda found=decision: victim.run("audit", "show", found).returncode == 0, within=5)
    assert json.loads(victim.run("audit", "verify", "--json").stdout)["ok"] is True


def test_kill_9_of_everything_and_the_next_start_recovers_alone(victim: Running) -> None:
    before = wallet(victim, 0)["balance"]
    ca = (victim.state / "tls" / "ca.pem").read_text()
    for pid in [victim.status["supervisor"], *(one["pid"] for one in victim.now()["processes"])]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: victim.run("status").returncode == 3, within=5)
    started = time.monotonic()
    with running(BANK, state=victim.state) as again:
        seconds = time.monotonic() - started
        assert wallet(again, 0)["balance"] == before
        assert (again.state / "tls" / "ca.pem").read_text() == ca
        assert json.loads(again.run("audit", "verify", "--json").stdout)["ok"] is True
    print(f"ready again after {seconds:.1f} s")
