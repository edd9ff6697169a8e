"""Doubles that the tests of this room share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.workloads import authority
from rempart.workloads.agents.model import Agent, JoinToken
from rempart.workloads.model import Entry, Told

Made = TypeVar("Made")
DOMAIN = "bank.example"


class MemoryRecorder:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.down = False

    async def record(self, event: Event) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("journal_unavailable", "the disk is gone")
        self.events.append(event)

    async def record_while(self, event: Event, make: Callable[[], Made]) -> Made:
        await self.record(event)
        return make()

    def types(self) -> list[str]:
        return [str(event.type) for event in self.events]


class MemoryStore:
    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.down = False

    def load(self) -> list[Entry]:
        return list(self.rows.values())

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        if self.down:
            raise Unavailable("entry_store_failed", "the disk is gone")
        for id_ in remove:
            self.rows.pop(id_, None)
        self.rows.update((entry.id, entry) for entry in put)

    def close(self) -> None: ...


class SigningSupervisor:
    """Signs with roots of its own; `supervised` is what it answers to everybody."""

    def __init__(self, clock: ManualClock, issuing_ttl: float = 100.0) -> None:
        self.clock = clock
        self.issuing_ttl = issuing_ttl
        self.roots = {kind: authority.create_root(kind, DOMAIN, now=clock.now()) for kind in authority.KINDS}
        self.supervised: Told | None = None
        self.down = False
        self.delay: asyncio.Event | None = None
        self.asked = 0

    async def who(self, pid: int, *, hash_program: bool = False) -> Told | None:
        self.asked += 1
        if self.delay is not None:
            await self.delay.wait()
        return self.supervised

    async def sign(self, kind: str, request_pem: str) -> str:
        if self.down:
            raise Unavailable("supervisor_unavailable", "nobody answers")
        pem, key = self.roots[kind]
        return authority.sign_issuing(
            kind,
            DOMAIN,
            root_certificate_pem=pem,
            root_key_der=key,
            csr_pem=request_pem,
            ttl=self.issuing_ttl,
            names=["localhost"],
            now=self.clock.now(),
        )


class MemoryAgents:
    """An `AgentStore`."""

    def __init__(self) -> None:
        self.known: dict[str, Agent] = {}
        self.tokens: dict[str, JoinToken] = {}

    async def agents(self) -> list[Agent]:
        return [self.known[name] for name in sorted(self.known)]

    async def find(self, spiffe_id: str) -> Agent | None:
        return self.known.get(spiffe_id)

    async def change(self, spiffe_id: str, how: Callable[[Agent | None], Agent | None]) -> Agent | None:
        after = how(self.known.get(spiffe_id))
        self.known.pop(spiffe_id, None)
        if after is not None:
            self.known[spiffe_id] = after
        return after

    async def put_token(self, token: JoinToken) -> None:
        self.tokens[token.digest] = token

    async def take_token(self, digest: str) -> JoinToken | None:
        return self.tokens.pop(digest, None)

    async def void_tokens(self, spiffe_id: str) -> int:
        void = [digest for digest, token in self.tokens.items() if token.spiffe_id == spiffe_id]
        for digest in void:
            del self.tokens[digest]
        return len(void)

    async def sweep(self, before: float) -> None:
        self.known = {k: one for k, one in self.known.items() if one.banned or one.expires_at >= before}
