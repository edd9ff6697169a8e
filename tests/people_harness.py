"""The people room composed for tests: real store and services, a clock to move by hand, hashes that cost nothing."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.people_fakes import MemoryRecorder, ready_keys

from rempart.crypto.passwords import Argon2id
from rempart.kernel.clock import ManualClock
from rempart.servers.people import People, compose
from rempart.wiring.process_people import PeopleSettings

GATEWAY = "spiffe://bank.example/rempart/gateway"
USERS = "spiffe://bank.example/users"
ISSUER = "https://localhost:8443/auth"
PASSWORD = "a quiet river of glass 42"
WEAK_HASH = Argon2id(memory=8, passes=1)


@dataclass
class Harness:
    people: People
    clock: ManualClock
    recorder: MemoryRecorder
    api: httpx.AsyncClient
    admin: httpx.AsyncClient

    async def add(self, email: str, role: str = "user", **more: Any) -> dict[str, Any]:
        body = {"email": email, "role": role, "password": PASSWORD, **more}
        answer = await self.admin.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def login(
        self, email: str, password: str = PASSWORD, *, ip: str = "203.0.113.7", **more: Any
    ) -> httpx.Response:
        self.api.cookies.clear()
        return await self.api.post("/login", json={"email": email, "password": password, **more}, headers=came_from(ip))

    async def refresh(self, token: str, **more: str) -> httpx.Response:
        return await self.api.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token, **more})


def came_from(ip: str) -> dict[str, str]:
    return {"x-spiffe-id": GATEWAY, "x-forwarded-for": ip, "x-request-id": "req-1", "x-rempart-decision": "dec_1"}


@asynccontextmanager
async def harness(**settings: Any) -> AsyncIterator[Harness]:
    clock, recorder = ManualClock(), MemoryRecorder()
    options = {"issuer": ISSUER, "audience": "bank.example", "signing_algorithm": "EdDSA", **settings}
    with tempfile.TemporaryDirectory() as directory:
        people = await compose(
            PeopleSettings(**options),
            Path(directory),
            b"k" * 32,
            recorder,
            clock=clock,
            hasher=WEAK_HASH,
            generate=ready_keys(),
        )
        try:
            async with (
                httpx.AsyncClient(transport=httpx.ASGITransport(people.api), base_url="https://people") as api,
                httpx.AsyncClient(transport=httpx.ASGITransport(people.admin), base_url="http://people") as admin,
            ):
                yield Harness(people, clock, recorder, api, admin)
        finally:
            recorder.failing = None
            await people.close()
