"""The agents' face of a server: what docs/many-hosts.md says under "The protocol". Behind `servers/agent_listener.py`,
which puts who showed a certificate in the handshake under `scope["rempart.peer"]` (the chain, DER, leaf first)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate, CertificateRequest
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Denied, RempartError, Throttled, Unauthenticated
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_answers import refusal
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
_JSON = "application/json"


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

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/challenge", self._stranger(self.challenge), methods=["POST"]),
                Route("/v1/join", self._stranger(self.join), methods=["POST"]),
                Route("/v1/bundle", self._stranger(self.bundle), methods=["GET"]),
                Route("/v1/renew", self._agent(self.renew), methods=["POST"]),
                Route("/v1/sync", self._agent(self.sync), methods=["GET"]),
                Route("/v1/x509", self._agent(self.sign), methods=["POST"]),
                Route("/v1/jwt", self._agent(self.jwt), methods=["POST"]),
                Route("/v1/events", self._agent(self.events), methods=["POST"]),
                *(
                    Route(path, self._agent(handle), methods=[method])
                    for method, path, handle in (self._hosts.routes() if self._hosts else ())
                ),
            ]
        )

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _stranger(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            try:
                self._strangers.take(request.client.host if request.client else "")
                return await handle(request)
            except RempartError as error:
                return await self._refuse(request, error, "")

        return call

    def _agent(
        self, handle: Callable[[Request, Agent], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            who = ""
            try:
                spiffe_id, serial = self._peer(request)
                who = str(spiffe_id)
                agent = await self._roster.verify(who, serial)
            except RempartError as error:
                answer = await self._refuse(request, error, who)
                answer.headers["connection"] = "close"  # its SVID opens nothing: it must not hold the place of one
                return answer
            try:
                self._allowance.take(who)
                return await handle(request, agent)
            except RempartError as error:
                return await self._refuse(request, error, who)

        return call

    def _peer(self, request: Request) -> tuple[SpiffeId, str]:
        """The agent's id and the serial of its SVID, verified now: a connection outlives neither. Raises
        Unauthenticated `no_agent_svid` | `bad_svid`, Denied `not_an_agent`."""
        chain: Sequence[bytes] = request.scope.get("rempart.peer", ())
        if not chain:
            raise Unauthenticated("no_agent_svid", "the agent showed no SVID", "join first")
        roots = [root.der for root in self._x509.roots]
        found = verify_svid(chain, roots, trust_domain=self._roster.trust_domain, now=self._clock.now())
        if not found.path.startswith(AGENTS):
            raise Denied("not_an_agent", f"{found} is not an agent", "workloads ask the agent of their host")
        return found, Certificate.parse(chain[0]).serial

    async def _refuse(self, request: Request, error: RempartError, who: str) -> Response:
        ip = request.client.host if request.client else ""
        known = {"ip": ip, "asked": request.url.path, **({"agent": who} if who else {})}
        if who or not isinstance(error, Throttled):
            await self._refusals.refused(who or ip, error, known)
        return refusal(error)

    # -- joining -----------------------------------------------------------------------------------------------------

    async def challenge(self, request: Request) -> Response:
        return _answer(messages.Challenge(self._nonces.give()))

    async def bundle(self, request: Request) -> Response:
        return Response(self._bundle(), media_type=_JSON)

    async def join(self, request: Request) -> Response:
        join = messages.read(await messages.body(request), Join)
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
        await self._roster.admit(agent, request.client.host if request.client else None)
        return _answer(Admitted(chain, self._bundle()))

    async def renew(self, request: Request, agent: Agent) -> Response:
        self._allowance.take(agent.spiffe_id, RENEWAL)
        asked = messages.read(await messages.body(request), Renew)
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

    async def sync(self, request: Request, agent: Agent) -> Response:
        seen = request.query_params.get("seen", "")[:128]
        deadline = self._clock.monotonic() + self._hold
        while True:
            before = self._identities.changes.version
            news = self._news(agent)
            left = deadline - self._clock.monotonic()
            if news.version != seen or left <= 0:
                return _answer(news)
            await self._identities.changes.wait(before, left)
            if await request.is_disconnected():
                return Response(status_code=204)
            agent = await self._roster.verify(*_shown(self._peer(request)))

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

    async def sign(self, request: Request, agent: Agent) -> Response:
        asked = messages.read(await messages.body(request), SignRequests)
        self._allowance.take(agent.spiffe_id, len(asked.requests))
        return _answer(messages.SignedAll(await self._signing.x509(agent.spiffe_id, asked.requests, agent.facts)))

    async def jwt(self, request: Request, agent: Agent) -> Response:
        asked = messages.read(await messages.body(request), TokenRequest)
        return _answer(await self._signing.jwt(agent.spiffe_id, asked.entry, asked.audience, agent.facts))

    async def events(self, request: Request, agent: Agent) -> Response:
        told = messages.read(await messages.body(request), ToldAll).events
        self._allowance.take(agent.spiffe_id, len(told) / EVENTS_OF_ONE)
        await self._telling.keep(agent.spiffe_id, told)
        return Response(status_code=204)


def _shown(peer: tuple[SpiffeId, str]) -> tuple[str, str]:
    return str(peer[0]), peer[1]


def _answer(document: Any) -> Response:
    return Response(messages.encode(document), media_type=_JSON)
