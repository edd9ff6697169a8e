"""What a server signs for an agent: only for entries that are the agent's own, and only what they say."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from rempart.crypto.x509 import CertificateRequest
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, Denied
from rempart.kernel.event import Event, EventType, Recorder
from rempart.workloads.jwt_authority import JwtAuthority, check_audiences
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Entry
from rempart.workloads.refusals import Refusals
from rempart.workloads.registration import Registration

from .messages import MAX_BATCH, Signed, SignRequest, Token

_KEYS_KEPT = 1 << 16
_TOGETHER = 50


class AgentSigning:
    """Everything is recorded, durably, before it is given. One event loop."""

    def __init__(
        self,
        registration: Registration,
        x509: LocalX509,
        jwt: JwtAuthority,
        recorder: Recorder,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._registration, self._x509, self._jwt = registration, x509, jwt
        self._recorder, self._refusals, self._clock = recorder, refusals, clock
        self._keys: OrderedDict[bytes, tuple[str, str]] = OrderedDict()

    def request_of(self, csr: bytes, spiffe_id: str, holder: tuple[str, str]) -> CertificateRequest:
        """A certificate request for `spiffe_id`; `holder` is the agent and what the key is for.

        Raises BadInput `bad_certificate_request`, Denied `foreign_san`, Conflict `key_reused`: one key would make two
        identities one, and who has the key of one has the other.
        """
        request = CertificateRequest.parse(csr)
        foreign = [name for name in request.names if name != f"URI:{spiffe_id}"]
        if foreign:
            raise Denied("foreign_san", f"the request asks to be {foreign[0][:200]}, not {spiffe_id}")
        digest = hashlib.sha256(request.public_der()).digest()
        if self._keys.setdefault(digest, holder) != holder:
            raise Conflict("key_reused", "this key has a certificate of another identity", "make a key for each SVID")
        self._keys.move_to_end(digest)
        while len(self._keys) > _KEYS_KEPT:
            self._keys.popitem(last=False)
        return request

    async def x509(self, agent: str, requests: list[SignRequest], facts: Sequence[str] = ()) -> list[Signed]:
        """In the order of the requests; one that is refused doesn't hold up the others. Raises BadInput
        `too_many_requests`, Unavailable when nothing can be signed or recorded now."""
        if len(requests) > MAX_BATCH:
            raise BadInput("too_many_requests", f"more than {MAX_BATCH} requests at once", "send fewer at a time")
        answers: list[Signed] = []
        parents = self._registration.parents(agent, facts)
        for first in range(0, len(requests), _TOGETHER):
            if first:
                await asyncio.sleep(0)  # others are served meanwhile
            batch = requests[first : first + _TOGETHER]
            answers += await asyncio.gather(*(self._one(agent, parents, request) for request in batch))
        return answers

    async def _one(self, agent: str, parents: frozenset[str], request: SignRequest) -> Signed:
        try:
            entry = self._own(parents, request.entry)
            asked = self.request_of(request.csr, str(entry.spiffe_id), (agent, entry.id))
        except (BadInput, Denied, Conflict) as error:
            await self._refusals.refused(agent, error, {"agent": agent, "entry": request.entry[:80]})
            return Signed(request.entry, code=error.code, reason=error.reason)
        chain = await self._x509.sign(entry, asked)
        leaf = chain[0]
        await self._issued(agent, entry, {"kind": "x509", "serial": leaf.serial, "not_after": leaf.not_after})
        return Signed(entry.id, [one.der for one in chain])

    async def jwt(self, agent: str, entry_id: str, audiences: list[str], facts: Sequence[str] = ()) -> Token:
        """Raises Denied `foreign_entry`, BadInput `bad_audience`, Unavailable."""
        wanted = check_audiences(audiences)
        try:
            entry = self._own(self._registration.parents(agent, facts), entry_id)
        except Denied as error:
            await self._refusals.refused(agent, error, {"agent": agent, "entry": entry_id[:80]})
            raise
        token = self._jwt.sign(entry, wanted)
        about = {"kind": "jwt", "token_id": token.token_id, "audience": list(wanted), "not_after": token.expires_at}
        await self._issued(agent, entry, about)
        return Token(token.token, token.token_id, token.issued_at, token.expires_at, token.key_id)

    def _own(self, parents: frozenset[str], entry_id: str) -> Entry:
        """The same answer whether the entry is another one's or none."""
        entry, now = self._registration.known(entry_id), self._clock.now()
        if entry is not None and entry.parent_id in parents and (entry.expires_at is None or now < entry.expires_at):
            return entry
        raise Denied("foreign_entry", f"{entry_id[:80]!r} is no entry of this agent", "synchronise the entries first")

    async def _issued(self, agent: str, entry: Entry, details: dict[str, object]) -> None:
        await self._recorder.record(
            Event(
                type=EventType.SVID_ISSUED,
                at=self._clock.now(),
                success=True,
                workload=str(entry.spiffe_id),
                service="identity",
                details={**details, "entry": entry.id, "agent": agent},
            )
        )
