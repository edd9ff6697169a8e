"""The server's agents: who may join, who is one now, who no longer is."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Denied, NotFound, RempartError, Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.ports import AgentStore
from rempart.workloads.refusals import Refusals

from .model import AGENTS, Agent, JoinToken

TOKEN_TTL = 600.0
MAX_TOKEN_TTL = 7 * 86400.0
KEPT_EXPIRED = 86400.0
_SWEEP = 300.0


class Roster:
    """Every change is recorded before it is stored, and `announce`d after. One event loop; the store may be shared."""

    def __init__(
        self, trust_domain: str, store: AgentStore, recorder: Recorder, clock: Clock, announce: Callable[[], None]
    ) -> None:
        self.trust_domain = trust_domain
        self._store, self._recorder, self._clock, self._announce = store, recorder, clock, announce

    async def agents(self) -> list[Agent]:
        return await self._store.agents()

    # -- join tokens -----------------------------------------------------------------------------------------------

    async def make_token(self, operator: str, *, ttl: float = TOKEN_TTL, name: str = "") -> tuple[str, JoinToken]:
        """A token and what is kept of it. Who shows it first becomes the agent `…/join_token/NAME`.

        Raises BadInput `bad_ttl` | `bad_spiffe_id`.
        """
        if not 1 <= ttl <= MAX_TOKEN_TTL:
            raise BadInput("bad_ttl", f"a join token can't live {ttl:g} s", "1 second to 7 days")
        agent = self.agent_id("join_token", name or secrets.token_hex(8))
        token = secrets.token_urlsafe(32)
        kept = JoinToken(digest=_digest(token), spiffe_id=agent, expires_at=self._clock.now() + ttl)
        await self._record_change("a join token was made", operator, agent, None, {"token_until": kept.expires_at})
        await self._store.put_token(kept)
        return token, kept

    async def take_token(self, token: str) -> JoinToken:
        """Raises Unauthenticated `join_token_refused`, the same for unknown, used and expired ones."""
        kept = await self._store.take_token(_digest(token))
        if kept is None or self._clock.now() >= kept.expires_at:
            raise Unauthenticated(
                "join_token_refused",
                "the join token is unknown, used or expired",
                "make a new one on the server: `rempart agent token`",
            )
        return kept

    def agent_id(self, method: str, *segments: str) -> str:
        """Raises BadInput `bad_spiffe_id`."""
        return str(SpiffeId.of(self.trust_domain, AGENTS.strip("/"), method, *segments))

    # -- agents ----------------------------------------------------------------------------------------------------

    async def admit(self, agent: Agent, ip: str | None) -> None:
        """Raises Denied `agent_banned`. Who joins again is the same agent, and its older SVID ends."""

        def admitted(before: Agent | None) -> Agent:
            if before is not None and before.banned:
                raise _banned(agent.spiffe_id)
            return agent

        admitted(await self._store.find(agent.spiffe_id))
        await self._recorder.record(
            Event(
                type=EventType.AGENT_JOINED,
                at=self._clock.now(),
                success=True,
                workload=agent.spiffe_id,
                ip=ip,
                service="identity",
                details={"method": agent.method, "facts": list(agent.facts), "serial": agent.serial},
            )
        )
        await self._store.change(agent.spiffe_id, admitted)

    async def verify(self, spiffe_id: str, serial: str) -> Agent:
        """The agent that shows an SVID of this id and serial. Raises Denied `agent_banned` | `agent_unknown` |
        `agent_superseded`: the SVID is one that was replaced since."""
        agent = await self._store.find(spiffe_id)
        if agent is None:
            raise Denied("agent_unknown", f"{spiffe_id} is no agent here, or was evicted", "let it join again")
        if agent.banned:
            raise _banned(spiffe_id)
        now = self._clock.now()
        used = agent.used(serial, now)
        if used is None:
            raise Denied(
                "agent_superseded",
                f"{spiffe_id} has been given a newer SVID since: this one is somebody's copy",
                "let the agent join again, and find out who has its key",
            )
        if used != agent:
            await self._store.change(spiffe_id, lambda before: before and (before.used(serial, now) or before))
        return used

    async def renew(self, agent: Agent, serial: str, expires_at: float) -> None:
        """It is about to be sent another SVID. Raises as `verify`."""

        def sent(before: Agent | None) -> Agent:
            if before is None:
                raise Denied("agent_unknown", f"{agent.spiffe_id} was evicted", "let it join again")
            if before.banned:
                raise _banned(agent.spiffe_id)
            return before.sent(serial, expires_at)

        await self._recorder.record(
            Event(
                type=EventType.SVID_ISSUED,
                at=self._clock.now(),
                success=True,
                workload=agent.spiffe_id,
                service="identity",
                details={"kind": "agent", "serial": serial, "not_after": expires_at},
            )
        )
        await self._store.change(agent.spiffe_id, sent)

    async def show(self, name: str) -> Agent:
        """By SPIFFE ID, or what follows `/rempart/agent/` in it. Raises NotFound `unknown_agent`."""
        agent = await self._store.find(self._full(name))
        if agent is None:
            raise _unknown(name)
        return agent

    async def ban(self, name: str, operator: str, *, banned: bool = True) -> Agent:
        """It is refused everything until the ban is lifted. Raises NotFound `unknown_agent`."""
        before = await self.show(name)
        what = "banned" if banned else "no longer banned"
        await self._record_change(f"the agent is {what}", operator, before.spiffe_id, before, {"banned": banned})
        changed = await self._store.change(before.spiffe_id, lambda agent: replace(agent or before, banned=banned))
        self._announce()
        return changed or before

    async def evict(self, name: str, operator: str) -> dict[str, Any]:
        """Forget it, and the join tokens that are open for it: it has to join again, by a new one. What there was, as
        `document` shows it, with the number of `tokens`; also where there were tokens only. Raises NotFound
        `unknown_agent`."""
        full = self._full(name)
        agent = await self._store.find(full)
        if agent is None:
            tokens = await self._store.void_tokens(full)
            if not tokens:
                raise _unknown(name)
            await self._record_change(f"{tokens} join tokens are void", operator, full, None, {"tokens": 0})
            return {"spiffe_id": full, "tokens": tokens}
        await self._record_change("the agent is evicted", operator, full, agent, None)
        tokens = await self._store.void_tokens(full)
        await self._store.change(full, lambda _: None)
        self._announce()
        return {**document(agent), "tokens": tokens}

    def _full(self, name: str) -> str:
        return name if name.startswith("spiffe://") else f"spiffe://{self.trust_domain}{AGENTS}{name}"

    async def keep_swept(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            with contextlib.suppress(RempartError):
                await self._store.sweep(self._clock.now() - KEPT_EXPIRED)
            await asyncio.sleep(_SWEEP)

    async def _record_change(
        self, reason: str, operator: str, spiffe_id: str, before: Agent | None, after: dict[str, Any] | None
    ) -> None:
        await self._recorder.record(
            Event(
                type=EventType.AGENT_CHANGED,
                at=self._clock.now(),
                success=True,
                operator=operator,
                workload=spiffe_id,
                severity=Severity.MEDIUM if before is not None else Severity.INFO,
                reason=reason,
                service="identity",
                before=document(before) if before else None,
                after=after,
            )
        )


def agent_refusals(recorder: Recorder, clock: Clock) -> Refusals:
    """Refusals of agents, and of who would be one."""
    return Refusals(recorder, clock, event_type=EventType.AGENT_REFUSED)


def document(agent: Agent) -> dict[str, Any]:
    """As the admin API and the record show it."""
    return {
        "spiffe_id": agent.spiffe_id,
        "method": agent.method,
        "facts": list(agent.facts),
        "serial": agent.next_serial or agent.serial,
        "expires_at": agent.expires_at,
        "joined_at": agent.joined_at,
        "banned": agent.banned,
        "rejoins": agent.rejoins,
    }


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _unknown(name: str) -> NotFound:
    return NotFound("unknown_agent", f"there is no agent {name[:200]!r}", "see `rempart agent list`")


def _banned(spiffe_id: str) -> Denied:
    return Denied("agent_banned", f"{spiffe_id} is banned", "the operator can lift that: `rempart agent unban`")
