"""Refresh with rotation and client credentials at a fresh Keycloak and at ours, in turns, 8 connections.

A slow moment of the machine so meets both; of each side's turns the best counts. See keycloak.md.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

CLIENTS, SECONDS, TURNS, START_WITHIN = 8, 4.0, 3, 600.0
ROOT = Path(__file__).resolve().parents[1]


def main(base: str) -> None:
    admin = _ready(base)
    realm = {
        "realm": "bench",
        "enabled": True,
        "revokeRefreshToken": True,
        "sslRequired": "none",
        "clients": [
            {"clientId": "app", "publicClient": True, "directAccessGrantsEnabled": True},
            {"clientId": "robot", "secret": "bench", "serviceAccountsEnabled": True},
        ],
        "users": [
            {
                "username": f"p{number}",
                "email": f"p{number}@bench.example",
                "emailVerified": True,
                "firstName": "P",
                "lastName": str(number),
                "enabled": True,
                "credentials": [{"type": "password", "value": "a quiet river of glass"}],
            }
            for number in range(CLIENTS)
        ],
    }
    headers = {"authorization": f"Bearer {admin}"}
    httpx.post(f"{base}/admin/realms", json=realm, headers=headers, timeout=60).raise_for_status()
    url = f"{base}/realms/bench/protocol/openid-connect/token"

    def refresh(number: int, http: httpx.Client) -> Callable[[], Any]:
        form = {"grant_type": "password", "client_id": "app", "username": f"p{number}"}
        held = [_ok(http.post(url, data={**form, "password": "a quiet river of glass"}))["refresh_token"]]

        def once() -> None:
            body = {"grant_type": "refresh_token", "client_id": "app", "refresh_token": held[0]}
            held[0] = _ok(http.post(url, data=body))["refresh_token"]

        return once

    def credentials(_: int, http: httpx.Client) -> Callable[[], Any]:
        body = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "bench"}
        return lambda: _ok(http.post(url, data=body))

    for make in (refresh, credentials):
        _per_second(make, 10.0)  # the virtual machine compiles what it runs often
    found: dict[str, list[float]] = {}
    sys.path.insert(0, str(ROOT))
    from tests.people_process import PeopleProcess
    from tests.support import short_directory

    from benchmarks.people import _Bench

    with short_directory() as directory:
        people = PeopleProcess(directory)
        try:
            people.start()
            bench = _Bench(people)
            for _ in range(TURNS):
                for name, theirs, ours in (
                    ("REFRESH", refresh, bench.refresh),
                    ("CREDENTIALS", credentials, bench.credentials),
                ):
                    found.setdefault(f"KEYCLOAK_{name}", []).append(_per_second(theirs, SECONDS))
                    found.setdefault(f"OURS_{name}", []).append(ours())
        finally:
            people.close()
    for name, rates in found.items():
        print(f"{name}={max(rates):.0f}  # of {', '.join(f'{rate:.0f}' for rate in rates)}", flush=True)
    for name in ("REFRESH", "CREDENTIALS"):
        print(f"# {name.lower()}: {max(found[f'OURS_{name}']) / max(found[f'KEYCLOAK_{name}']):.1f} times")


def _ready(base: str) -> str:
    """The administrator's token, once the server gives one."""
    form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin"}
    form["password"] = os.environ["KEYCLOAK_PASSWORD"]
    deadline = time.monotonic() + START_WITHIN
    while True:
        try:
            answer = httpx.post(f"{base}/realms/master/protocol/openid-connect/token", data=form, timeout=30)
            if answer.status_code == 200:
                return str(answer.json()["access_token"])
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit("Keycloak did not start")
        time.sleep(0.5)


def _per_second(make: Callable[[int, httpx.Client], Callable[[], Any]], seconds: float) -> float:
    counts = [0] * CLIENTS

    def work(number: int) -> None:
        with httpx.Client(timeout=30) as http:
            once = make(number, http)
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                once()
                counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def _ok(answer: httpx.Response) -> dict[str, Any]:
    answer.raise_for_status()
    document: dict[str, Any] = json.loads(answer.content)
    return document


if __name__ == "__main__":
    main(sys.argv[1])
