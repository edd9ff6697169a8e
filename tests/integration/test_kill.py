"""`kill -9` of any process: back within two seconds, nothing passes unauthorised meanwhile, the log stays whole."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from tests.integration.conftest import TINY, Running, running, write_tiny
from tests.support import eventually, short_directory

BACK_WITHIN = 2.0
ROUNDS = 20
ALIKE = {200, 401, 502, 503, 504}


@pytest.fixture(scope="module")
def victim() -> Iterator[Running]:
    """A system of its own, since these tests hurt it."""
    with short_directory("rk") as directory, running(write_tiny(directory / "app", TINY)) as system:
        yield system


class Load:
    """Authorised and unauthorised requests, one after the other, until told to stop."""

    def __init__(self, system: Running) -> None:
        self.system = system
        self.token = system.token("user")
        self.allowed: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.decisions: list[str] = []
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=self.system.ca)
        good = {"authorization": f"Bearer {self.token}"}
        bad = {"authorization": f"Bearer {self.token[:-4]}AAAA"}
        while not self.stop.wait(0.25):  # 600 requests a minute are what one person may send
            with httpx.Client(verify=context, timeout=5) as client:
                for headers, seen in ((good, self.allowed), (bad, self.refused)):
                    try:
                        answer = client.get(f"{self.system.url}/hello", headers=headers)
                    except httpx.TransportError:
                        seen[0] += 1
                        time.sleep(0.01)
                        continue
                    seen[answer.status_code] += 1
                    if answer.status_code == 200:
                        self.decisions.append(answer.headers["x-rempart-decision"])


def serves(system: Running, tokens: Iterator[str]) -> bool:
    token = next(tokens)
    context = ssl.create_default_context(cafile=system.ca)
    try:
        answer = httpx.get(
            f"{system.url}/hello", headers={"authorization": f"Bearer {token}"}, verify=context, timeout=2
        )
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def logs_in(system: Running) -> bool:
    try:
        return bool(system.token("user", 1))
    except (httpx.TransportError, AssertionError):
        return False


def test_random_kills_under_load(victim: Running) -> None:
    chance = random.Random(7)
    names = [one["name"] for one in victim.now()["processes"]]
    slowest: dict[str, float] = {}
    roles = ("user", "admin", "finance", "audit", "devops")
    tokens = itertools.cycle([victim.token(role) for role in roles])
    with Load(victim) as load:
        for _ in range(ROUNDS):
            name = chance.choice(names)
            pid = victim.pid(name)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            eventually(lambda: serves(victim, tokens), within=15, every=0.05, why=f"not back after killing {name}")
            if name.startswith("people"):
                eventually(lambda: logs_in(victim), within=15, every=0.25, why=f"no login after killing {name}")
            slowest[name] = max(slowest.get(name, 0.0), time.monotonic() - began)
            eventually(lambda: victim.now()["ready"], within=10, why=f"{name} not ready again")
    print(json.dumps({name: round(seconds, 2) for name, seconds in sorted(slowest.items())}))
    assert load.refused[200] == 0, "a forged token passed"
    assert set(load.allowed) <= ALIKE | {0}
    assert set(load.refused) <= ALIKE | {0}
    assert load.allowed[200] > 0
    assert max(slowest.values()) <= BACK_WITHIN, slowest
    for decision in chance.sample(load.decisions, min(10, len(load.decisions))):
        eventually(lambda found=decision: victim.run("audit", "show", found).returncode == 0, within=5)
    verified = victim.run("audit", "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["ok"] is True


def test_a_stopped_process_is_found_hung_and_replaced(victim: Running) -> None:
    pid = victim.pid("hello-sidecar")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: victim.pid("hello-sidecar") not in (pid, None) and victim.now()["ready"], within=45, every=0.5)


def test_restarts_are_counted_and_recorded(victim: Running) -> None:
    before = next(one for one in victim.now()["processes"] if one["name"] == "observer")
    os.kill(before["pid"], signal.SIGKILL)

    def counted() -> bool:
        after = next(one for one in victim.now()["processes"] if one["name"] == "observer")
        return bool(after["restarts"] == before["restarts"] + 1 and after["ready"])

    eventually(counted, within=10)
    found = victim.run("audit", "search", "--type", "system.process_crashed", "--json", "--limit", "50")
    assert "observer" in found.stdout, found.stderr


def test_a_crash_loop_is_told_and_slowed(victim: Running) -> None:
    def state() -> str:
        return str(next(one for one in victim.now()["processes"] if one["name"] == "agent-sidecar")["state"])

    def kill_it() -> bool:
        pid = victim.pid("agent-sidecar")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return state() == "crash-loop"

    eventually(kill_it, within=30, every=0.2)
    assert victim.run("status").returncode == 1
    eventually(lambda: victim.now()["ready"], within=20, every=0.2)
