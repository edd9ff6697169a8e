"""The agents' face of a server: what docs/many-hosts.md says under "The protocol". Behind `servers/agent_listener.py`,
which puts who showed a certificate in the handshake under `scope["rempart.peer"]` (the chain, DER, leaf first)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate, CertificateRequest
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Denied, RempartError, Throttled, Unauthenticated
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import JSON, NO_CONTENT, Ask, Handler, Page, Route, refused, routed
from rempart.workloads.identities import Identities
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Entry
from rempart.workloads.refusals import Refusals
from rempart.workloads.registration import Registration
from rempart.workloads.workload_api import spiffe_bundle

from . import messages
from .allowance import EVENTS_OF_ONE, RENEWAL, STRANGERS, Allowance
from .host_api import HostApi
from .joining import Joining, Nonces
from .messages import Admitted, Join, Renew, SignRequests, Synced, TokenRequest, ToldAll, WireEntry
from .model import AGENTS, Agent
from .roster import Roster
from .signing import AgentSigning
from .telling import Telling

HOLD = 25.0
"""Seconds that a question for news is held while there are none."""


class AgentApi:
    def __init__(
        self,
        *,
        identities: Identities,
        registration: Registration,
        roster: Roster,
        joining: Joining,
        nonces: Nonces,
        signing: AgentSigning,
        telling: Telling,
        x509: LocalX509,
        jwt: JwtAuthority,
        issuer: str,
        root: Callable[[], str],
        refusals: Refusals,
        clock: Clock,
        hold: float = HOLD,
        hosts: HostApi | None = None,
    ) -> None:
        """`root` gives the fingerprint of the root that signs now."""
        self._identities, self._registration, self._roster = identities, registration, roster
        self._joining, self._nonces, self._signing, self._telling = joining, nonces, signing, telling
        self._x509, self._jwt, self._issuer, self._root = x509, jwt, issuer, root
        self._refusals, self._clock, self._hold, self._hosts = refusals, clock, hold, hosts
        self._allowance, self._strangers = Allowance(clock), Allowance(clock, *STRANGERS)

    def handler(self) -> Handler:
        return routed(
            [
                Route("POST", "/v1/challenge", self._stranger(self.challenge)),
                Route("POST", "/v1/join", self._stranger(self.join)),
                Route("GET", "/v1/bundle", self._stranger(self.bundle)),
                Route("POST", "/v1/renew", self._agent(self.renew)),
                Route("GET", "/v1/sync", self._agent(self.sync)),
                Route("POST", "/v1/x509", self._agent(self.sign)),
                Route("POST", "/v1/jwt", self._agent(self.jwt)),
                Route("POST", "/v1/events", self._agent(self.events)),
                *(
                    Route(method, path, self._agent(handle))
                    for method, path, handle in (self._hosts.routes() if self._hosts else ())
                ),
            ]
        )

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _stranger(self, handle: Handler) -> Handler:
        async def call(ask: Ask) -> Page:
            try:
                self._strangers.take(ask.client)
                return await handle(ask)
            except RempartError as error:
                return await self._refuse(ask, error, "")

        return call

    def _agent(self, handle: Callable[[Ask, Agent], Awaitable[Page]]) -> Handler:
        async def call(ask: Ask) -> Page:
            who = ""
            try:
                spiffe_id, serial = self._peer(ask)
                who = str(spiffe_id)
                agent = await self._roster.verify(who, serial)
            except RempartError as error:
                page = await self._refuse(ask, error, who)
                # its SVID opens nothing: it must not hold the place of one
                return page._replace(headers={**page.headers, "connection": "close"})
            try:
                self._allowance.take(who)
                return await handle(ask, agent)
            except RempartError as error:
                return await self._refuse(ask, error, who)

        return call

    def _peer(self, ask: Ask) -> tuple[SpiffeId, str]:
        """The agent's id and the serial of its SVID, verified now: a connection outlives neither. Raises
        Unauthenticated `no_agent_svid` | `bad_svid`, Denied `not_an_agent`."""
        if not ask.peer:
            raise Unauthenticated("no_agent_svid", "the agent showed no SVID", "join first")
        roots = [root.der for root in self._x509.roots]
        found = verify_svid(ask.peer, roots, trust_domain=self._roster.trust_domain, now=self._clock.now())
        if not found.path.startswith(AGENTS):
            raise Denied("not_an_agent", f"{found} is not an agent", "workloads ask the agent of their host")
        return found, Certificate.parse(ask.peer[0]).serial

    async def _refuse(self, ask: Ask, error: RempartError, who: str) -> Page:
        ip = ask.client
        known = {"ip": ip, "asked": ask.path, **({"agent": who} if who else {})}
        if who or not isinstance(error, Throttled):
            await self._refusals.refused(who or ip, error, known)
        return refused(error)

    # -- joining -----------------------------------------------------------------------------------------------------

    async def challenge(self, ask: Ask) -> Page:
        return _answer(messages.Challenge(self._nonces.give()))

    async def bundle(self, ask: Ask) -> Page:
        return Page(200, JSON, self._bundle().encode())

    async def join(self, ask: Ask) -> Page:
        join = messages.read(await messages.body(ask), Join)
        CertificateRequest.parse(join.csr)  # what is good once is not spent on a request that can't be signed
        attested = await self._joining.attest(join)
        chain, leaf = await self._sign_agent(attested.spiffe_id, join.csr)
        agent = Agent(
            spiffe_id=attested.spiffe_id,
            method=join.method,
            facts=attested.facts,
            serial=leaf.serial,
            expires_at=leaf.not_after,
            joined_at=self._clock.now(),
            rejoins=attested.rejoins,
        )
        await self._roster.admit(agent, ask.client or None)
        return _answer(Admitted(chain, self._bundle()))

    async def renew(self, ask: Ask, agent: Agent) -> Page:
        self._allowance.take(agent.spiffe_id, RENEWAL)
        asked = messages.read(await messages.body(ask), Renew)
        chain, leaf = await self._sign_agent(agent.spiffe_id, asked.csr)
        await self._roster.renew(agent, leaf.serial, leaf.not_after)
        return _answer(Admitted(chain, self._bundle()))

    async def _sign_agent(self, spiffe_id: str, csr: bytes) -> tuple[list[bytes], Certificate]:
        asked = self._signing.request_of(csr, spiffe_id, (spiffe_id, ""))
        entry = Entry(id="", spiffe_id=SpiffeId.parse(spiffe_id), selectors=frozenset())
        chain = await self._x509.sign(entry, asked)
        return [one.der for one in chain], chain[0]

    def _bundle(self) -> str:
        return messages.encode(spiffe_bundle(self._identities.bundle())).decode()

    # -- agents ------------------------------------------------------------------------------------------------------

    async def sync(self, ask: Ask, agent: Agent) -> Page:
        seen = ask.query.get("seen", "")[:128]
        deadline = self._clock.monotonic() + self._hold
        while True:
            before = self._identities.changes.version
            news = self._news(agent)
            left = deadline - self._clock.monotonic()
            if news.version != seen or left <= 0:
                return _answer(news)
            await self._identities.changes.wait(before, left)
            if ask.gone():
                return NO_CONTENT
            agent = await self._roster.verify(*_shown(self._peer(ask)))

    def _news(self, agent: Agent) -> Synced:
        own = sorted(self._registration.of_agent(agent.spiffe_id, agent.facts), key=lambda entry: entry.id)
        partners = self._identities.bundles(own)[1:]
        told = Synced(
            version="",
            entries=[WireEntry.of(entry) for entry in own],
            bundle=self._bundle(),
            partners={one.trust_domain: messages.encode(spiffe_bundle(one)).decode() for one in partners},
            issuer=self._issuer,
            kid=self._jwt.active_kid,
            generation=self._root(),
            adopted=sorted(self._jwt.adopted),
        )
        version = hashlib.sha256(messages.encode(told)).hexdigest()
        return msgspec.structs.replace(told, version=version)

    async def sign(self, ask: Ask, agent: Agent) -> Page:
        asked = messages.read(await messages.body(ask), SignRequests)
        self._allowance.take(agent.spiffe_id, len(asked.requests))
        return _answer(messages.SignedAll(await self._signing.x509(agent.spiffe_id, asked.requests, agent.facts)))

    async def jwt(self, ask: Ask, agent: Agent) -> Page:
        asked = messages.read(await messages.body(ask), TokenRequest)
        return _answer(await self._signing.jwt(agent.spiffe_id, asked.entry, asked.audience, agent.facts))

    async def events(self, ask: Ask, agent: Agent) -> Page:
        told = messages.read(await messages.body(ask), ToldAll).events
        self._allowance.take(agent.spiffe_id, len(told) / EVENTS_OF_ONE)
        await self._telling.keep(agent.spiffe_id, told)
        return NO_CONTENT


def _shown(peer: tuple[SpiffeId, str]) -> tuple[str, str]:
    return str(peer[0]), peer[1]


def _answer(document: Any) -> Page:
    return Page(200, JSON, messages.encode(document))
