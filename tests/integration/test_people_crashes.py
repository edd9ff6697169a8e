"""Killed at any moment of a rotation: no refresh token works twice, and none is lost while its grace lasts."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from tests.people_process import GATEWAY, PeopleProcess
from tests.postgres import private_postgres
from tests.support import eventually, short_directory

PASSWORD = "a quiet river of glass 42"
KILLS, PEOPLE = 6, 4


@pytest.fixture(params=["sqlite", "postgres"])
def people(request: pytest.FixtureRequest) -> Iterator[PeopleProcess]:
    with contextlib.ExitStack() as held:
        settings = {}
        if request.param == "postgres":
            settings = {"state": {"database": held.enter_context(private_postgres()).conninfo}}
        process = PeopleProcess(held.enter_context(short_directory("pp")), settings)
        held.callback(process.close)
        process.start()
        yield process


@dataclass
class Chain:
    """One person's refresh tokens, oldest first; `retried` counts answers that were lost."""

    tokens: list[str]
    retried: int = 0
    wrong: list[str] = field(default_factory=list)

    def rotate(self, people: PeopleProcess, until: threading.Event) -> None:
        client = people.client(**{"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"})
        while not until.is_set():
            started = time.monotonic()
            while True:
                try:
                    answer = _refresh(client, self.tokens[-1])
                    break
                except httpx.TransportError:
                    self.retried += 1
                    client.close()
                    client = people.client(**{"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"})
            if answer.status_code != 200:
                self.wrong.append(f"{answer.status_code} {answer.text} after {time.monotonic() - started:.1f} s")
                break
            self.tokens.append(answer.json()["refresh_token"])
        client.close()


def _refresh(client: httpx.Client, token: str) -> httpx.Response:
    return client.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})


def test_kill_9_while_tokens_rotate(people: PeopleProcess) -> None:
    chance, chains, done = random.Random(4), [], threading.Event()
    with people.client("admin") as admin, people.client() as client:
        for number in range(PEOPLE):
            email = f"p{number}@bank.example"
            assert admin.post("/users", json={"email": email, "role": "user", "password": PASSWORD}).status_code == 201
            login = client.post("/login", json={"email": email, "password": PASSWORD})
            chains.append(Chain([login.json()["refresh_token"]]))
    with ThreadPoolExecutor(PEOPLE) as threads:
        running = [threads.submit(chain.rotate, people, done) for chain in chains]
        try:
            for _ in range(KILLS):
                before = [len(chain.tokens) for chain in chains]
                eventually(lambda: all(len(c.tokens) > n for c, n in zip(chains, before, strict=True)), within=20)  # noqa: B023 - used at once
                done.wait(chance.uniform(0, 0.1))  # at any step of what comes next
                people.stop(signal.SIGKILL)
                people.start()
        finally:
            done.set()
        for work in running:
            work.result(30)
    assert [chain.wrong for chain in chains] == [[]] * PEOPLE
    assert sum(chain.retried for chain in chains) > 0
    with people.client() as client:
        for chain in chains:
            assert len(chain.tokens) > KILLS
            assert len(set(chain.tokens)) == len(chain.tokens)
            last = _refresh(client, chain.tokens[-1])
            assert last.status_code == 200
            used = chance.choice(chain.tokens[:-2])
            assert _refresh(client, used).status_code == 400
            assert _refresh(client, last.json()["refresh_token"]).status_code == 400  # somebody had a copy
