"""What the agent of a host with services asks of the server besides identities: how the application is laid out, which
policy is in force, whose tokens are over; and where its host's events go (docs/many-hosts.md)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from rempart.kernel.clock import Clock
from rempart.kernel.errors import NotFound
from rempart.kernel.event import Event
from rempart.protocols.http_pages import JSON, NO_CONTENT, Ask, Page

from . import messages
from .allowance import EVENTS_OF_ONE, Allowance
from .host_record import read_recorded
from .model import Agent, source_of

HOLD = 25.0
"""Seconds that a question for another policy is held while it is the same."""
_LOOK = 1.0
Handler = Callable[[Ask, Agent], Awaitable[Page]]


class Enforcement(Protocol):
    """What the enforcement points of other hosts follow. Each raises Unavailable while it can't be told."""

    async def policy(self) -> bytes:
        """The policy in force, whole; empty where the built-in one decides."""

    async def epochs(self, position: bytes) -> bytes:
        """The next line of people's after that position (`people/administration/epoch_feed.py`), within seconds."""


class HostApi:
    """`hosts` gives by the agent's SPIFFE ID what it is told (JSON) and the names of its programs. `record` keeps an
    event once, under the name of its source, and returns when it is durable."""

    def __init__(
        self,
        hosts: Mapping[str, tuple[bytes, frozenset[str]]],
        enforcement: Enforcement,
        record: Callable[[Event, str], Awaitable[None]],
        clock: Clock,
        hold: float = HOLD,
    ) -> None:
        self._hosts, self._enforcement, self._record = hosts, enforcement, record
        self._clock, self._hold = clock, hold
        self._allowance = Allowance(clock)
        self._digested: tuple[bytes, str] = (b"", "")

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/v1/host", self.host),
            ("GET", "/v1/policy", self.policy),
            ("POST", "/v1/epochs", self.epochs),
            ("POST", "/v1/record", self.keep),
        ]

    def _of(self, agent: Agent) -> tuple[bytes, frozenset[str]]:
        found = self._hosts.get(agent.spiffe_id)
        if found is None:
            raise NotFound(
                "no_host", f"{agent.spiffe_id} is the agent of no host with services", "add a [[host]] to rempart.toml"
            )
        return found

    async def host(self, ask: Ask, agent: Agent) -> Page:
        return Page(200, JSON, self._of(agent)[0])

    async def policy(self, ask: Ask, agent: Agent) -> Page:
        """Empty when it is still the one of the digest `seen`."""
        self._of(agent)
        seen = ask.query.get("seen", "")[:64]
        deadline = self._clock.monotonic() + self._hold
        while True:
            policy = await self._enforcement.policy()
            digest = self._digest(policy)
            if digest != seen or self._clock.monotonic() >= deadline:
                return Page(200, JSON, b"" if digest == seen else policy)
            await asyncio.sleep(_LOOK)
            if ask.gone():
                return NO_CONTENT

    def _digest(self, policy: bytes) -> str:
        """Policies are large, and asked for every second by everybody who waits for another one."""
        if self._digested[0] is not policy:
            self._digested = (policy, hashlib.sha256(policy).hexdigest())
        return self._digested[1]

    async def epochs(self, ask: Ask, agent: Agent) -> Page:
        self._of(agent)
        return Page(200, JSON, await self._enforcement.epochs(await messages.body(ask)))

    async def keep(self, ask: Ask, agent: Agent) -> Page:
        services = self._of(agent)[1]
        told = messages.read(await messages.body(ask), messages.Recorded)
        self._allowance.take(agent.spiffe_id, len(told.events) / EVENTS_OF_ONE)
        payloads = [bytes(one) for one in told.events]
        events = read_recorded(agent.spiffe_id, services, told.source, payloads, self._clock.now())
        source = source_of(told.source, agent.spiffe_id)
        await asyncio.gather(*(self._record(event, source) for event in events))
        return NO_CONTENT


def hosts_of(settings: Mapping[str, Any]) -> dict[str, tuple[bytes, frozenset[str]]]:
    """From what each agent is told: JSON, and the services in it."""
    return {agent: (messages.encode(told), frozenset(told.services)) for agent, told in settings.items()}
