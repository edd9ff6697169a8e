"""A payment end to end (TLS, token, three sidecars, five decisions, two services, fsync) against the ledger alone.

Both move money between two accounts, durably. The ratio says what the protected path costs; the rows below it where the
time of one payment goes, as the difference between what can be measured from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import statistics
import subprocess  # nosec B404 - runs our own command
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from .running import BANK, REMPART, bank

SECONDS = 4.0
TASKS = 8
PACE = 9.0  # one person may send ten requests a second: alone, a payment is timed at this pace


def run() -> list[dict[str, Any]]:
    ledger_one, ledger_many = _ledger(1), _ledger(TASKS)
    with bank("--unsafe-disable", "rate-limit-ip", "--unsafe-disable", "rate-limit-person") as (state, status):
        accounts = json.loads(Path(status["demo_accounts"]).read_text())
        one, many, wallet = asyncio.run(_system(state, status, accounts))
    alone = 1.0 / ledger_one
    return [
        _row("payment end to end, one after the other", "the ledger function, SQLite, fsync", 1.0 / one, ledger_one),
        _row(f"payment end to end, {TASKS} at once", "the same, as many at once", many, ledger_many),
        {
            "what": "where one payment's time goes",
            "against": "GET /wallet: gateway, one sidecar, two decisions",
            "ours": f"{one * 1000:.1f} ms",
            "peer": f"{wallet * 1000:.1f} ms",
            "ratio": one / wallet,
            "target": f"of it the ledger {alone * 1000:.2f} ms",
        },
    ]


def _row(what: str, against: str, ours: float, peer: float) -> dict[str, Any]:
    return {
        "what": what,
        "against": against,
        "ours": f"{ours:,.0f}/s",
        "peer": f"{peer:,.0f}/s",
        "ratio": ours / peer,
        "target": "state it",
    }


def _ledger(tasks: int) -> float:
    """Transfers a second by so many tasks."""
    sys.path.insert(0, str(BANK))
    from wallet.ledger import SOURCE, Kind, order
    from wallet.ledger_sqlite import SqliteLedger

    def transfer(kind: Kind, source: str, to: str, amount: int) -> Any:
        return order(kind=kind, source=source, destination=to, amount=amount, at=time.time(), key=uuid.uuid4().hex)

    async def play(path: Path) -> float:
        ledger = SqliteLedger(path)
        await ledger.transfer(transfer(Kind.DEPOSIT, SOURCE, "a", 10**9))

        async def one() -> None:
            await ledger.transfer(transfer(Kind.PAYMENT, "a", "b", 1))

        rate = await _rate(one, tasks)
        await ledger.close()
        return rate

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(play(Path(directory) / "ledger.db"))


async def _rate(act: Callable[[], Awaitable[None]], tasks: int, seconds: float = SECONDS) -> float:
    done = 0
    until = time.perf_counter() + seconds

    async def repeat() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await act()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(tasks)))
    return done / (time.perf_counter() - began)


async def _system(state: Path, status: dict[str, Any], accounts: list[dict[str, str]]) -> tuple[float, float, float]:
    """Seconds of one payment alone, payments a second at once, seconds of one `GET /wallet` (medians)."""
    context = ssl.create_default_context(cafile=status["gateway"]["ca"])
    payer, receiver = [account for account in accounts if account["role"] == "user"][:2]
    await _deposit(state, payer["user_id"])
    async with httpx.AsyncClient(base_url=status["gateway"]["url"], verify=context, timeout=30) as http:
        answer = await http.post("/login", json={"email": payer["email"], "password": payer["password"]})
        answer.raise_for_status()
        bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}

        async def pay() -> None:
            body = {"receiver_id": receiver["user_id"], "amount": 1}
            made = await http.post("/payments", json=body, headers={**bearer, "idempotency-key": uuid.uuid4().hex})
            made.raise_for_status()

        async def look() -> None:
            (await http.get("/wallet", params={"user_id": payer["user_id"]}, headers=bearer)).raise_for_status()

        one = await _median(pay)
        wallet = await _median(look)
        return one, await _rate(pay, TASKS), wallet


async def _median(act: Callable[[], Awaitable[None]], times: int = 30) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, 1 / PACE - taken[-1]))
    return statistics.median(taken[3:])


async def _deposit(state: Path, receiver: str) -> None:
    command = [REMPART, "run", "--state", str(state), "deposit-agent", "--"]
    command += ["python", "-m", "deposit_agent", "--receiver", receiver, "--amount", "10000000"]
    done = await asyncio.to_thread(
        subprocess.run,  # nosec B603 - our own command, fixed arguments
        command,
        cwd=BANK,
        env={**os.environ, "REMPART_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the deposit failed: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
