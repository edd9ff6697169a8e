"""The server's signatures, as the ports `X509Signer` and `JwtSigner` have them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate, EcKey, same_key
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.jwt_authority import claimed_kid, validate_token
from rempart.workloads.model import Entry, JwtDraft
from rempart.workloads.ports import ServerConnection

from . import messages
from .knowledge import Knowledge
from .messages import MAX_BATCH, Signed, SignedAll, SignRequest, SignRequests, Token, TokenRequest

SIGN_WITHIN = 20.0
TOKEN_WITHIN = 10.0
_Chain = tuple[Certificate, ...]


class RemoteX509:
    """What is asked for while a request is under way goes into the next one together. One event loop."""

    def __init__(self, server: ServerConnection, knowledge: Knowledge, clock: Clock) -> None:
        self._server, self._knowledge, self._clock = server, knowledge, clock
        self._waiting: list[tuple[Entry, EcKey, asyncio.Future[_Chain]]] = []
        self._sender: asyncio.Task[None] | None = None

    @property
    def roots(self) -> _Chain:
        return self._knowledge.roots

    @property
    def generation(self) -> str:
        return self._knowledge.synced.generation

    async def sign(self, entry: Entry, key: EcKey) -> _Chain:
        future: asyncio.Future[_Chain] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, key, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        await asyncio.sleep(0)  # what is asked for in the same turn goes together
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                requests = [SignRequest(entry.id, key.request_der()) for entry, key, _ in batch]
                body = messages.encode(SignRequests(requests))
                answer = await self._server.ask("POST", "/v1/x509", body, within_s=SIGN_WITHIN)
                answers = messages.read_answer(answer, SignedAll).svids
                if len(answers) != len(batch):
                    raise Unavailable("bad_answer", "the server answered other questions than were asked")
            except RempartError as error:
                for _, _, future in batch:
                    _fail(future, error)
                continue
            for (entry, key, future), signed in zip(batch, answers, strict=True):
                try:
                    chain = self._checked(entry, key, signed)
                except RempartError as error:
                    _fail(future, error)
                    continue
                if not future.done():
                    future.set_result(chain)

    def _checked(self, entry: Entry, key: EcKey, signed: Signed) -> _Chain:
        if signed.code:
            raise Unavailable(signed.code, f"the server did not sign: {signed.reason}", "it is asked again")
        domain, now = self._knowledge.trust_domain, self._clock.now()
        found = verify_svid(signed.chain, [root.der for root in self.roots], trust_domain=domain, now=now)
        if found != entry.spiffe_id or not same_key(signed.chain[0], key):
            raise Unavailable("bad_answer", "the server signed something else than it was asked for")
        return tuple(map(Certificate.parse, signed.chain))


def _fail(future: asyncio.Future[_Chain], error: RempartError) -> None:
    """Whatever the server says: what the workload has is valid, and the agent finds out itself if it is no agent."""
    if not future.done():
        future.set_exception(Unavailable(error.code, error.reason, error.remedy))


class RemoteJwt:
    def __init__(self, server: ServerConnection, knowledge: Knowledge, clock: Clock) -> None:
        self._server, self._knowledge, self._clock = server, knowledge, clock

    @property
    def active_kid(self) -> str:
        return self._knowledge.synced.kid

    @property
    def sequence(self) -> int:
        return self._knowledge.bundle.sequence or 0

    def public_keys(self) -> tuple[Mapping[str, Any], ...]:
        return self._knowledge.bundle.jwt_keys

    async def draft(self, entry: Entry, audiences: tuple[str, ...]) -> JwtDraft:
        """Signed already, over there."""
        body = messages.encode(TokenRequest(entry.id, list(audiences)))
        try:
            answer = await self._server.ask("POST", "/v1/jwt", body, within_s=TOKEN_WITHIN)
        except RempartError as error:
            raise Unavailable(error.code, error.reason, error.remedy) from None
        told = messages.read_answer(answer, Token)
        times = told.issued_at, told.expires_at
        return JwtDraft(entry.spiffe_id, entry.hint, told.token_id, *times, told.kid, lambda: told.token)

    def validate(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        domain, synced = self._knowledge.trust_domain, self._knowledge.synced
        issuer = None if claimed_kid(token) in synced.adopted else synced.issuer
        return validate_token(token, audience, self.public_keys(), domain, issuer, self._clock.now())
