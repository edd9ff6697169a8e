"""What server and agent say to each other (docs/many-hosts.md): JSON, bytes as base64.

Requests are read strictly. Answers may have members that an older agent doesn't know.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec

from rempart.kernel.errors import BadInput, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import Ask
from rempart.workloads.model import Entry, Selector

T = TypeVar("T")
MAX_BATCH = 500
"""Certificate requests of one message."""
MAX_REQUEST = 1 << 20
READ_WITHIN = 30.0
MAX_ANSWER = 32 << 20
"""Bytes: ten thousand entries and their bundle fit."""


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`token` for join_token and k8s; `nonce`, `chain` (leaf first) and `signature` where a key is possessed."""

    method: str
    csr: bytes
    token: str = ""
    cluster: str = ""
    nonce: str = ""
    chain: list[bytes] = []
    signature: bytes = b""


class Renew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr: bytes


class Challenge(msgspec.Struct, frozen=True):
    nonce: str


class Admitted(msgspec.Struct, frozen=True):
    """The agent's SVID, leaf first, and the bundle to verify the server by (SPIFFE bundle, JSON text)."""

    svid: list[bytes]
    bundle: str


class WireEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A registration entry, as far as an agent needs it."""

    id: str
    spiffe_id: str
    selectors: list[str]
    ttl: int = 0
    jwt_ttl: int = 0
    dns_names: list[str] = []
    federates_with: list[str] = []
    hint: str = ""
    expires_at: float | None = None

    @staticmethod
    def of(entry: Entry) -> WireEntry:
        return WireEntry(
            entry.id,
            str(entry.spiffe_id),
            sorted(map(str, entry.selectors)),
            entry.ttl,
            entry.jwt_ttl,
            list(entry.dns_names),
            list(entry.federates_with),
            entry.hint,
            entry.expires_at,
        )

    def entry(self, parent_id: str) -> Entry:
        """Raises BadInput for what no server would send."""
        selectors = frozenset(map(Selector.parse, self.selectors))
        if not selectors:
            raise BadInput("bad_entries", f"{self.spiffe_id} has no selectors: it would be everybody's")
        return Entry(
            id=self.id,
            spiffe_id=SpiffeId.parse(self.spiffe_id),
            selectors=selectors,
            parent_id=parent_id,
            ttl=self.ttl,
            jwt_ttl=self.jwt_ttl,
            dns_names=tuple(self.dns_names),
            federates_with=tuple(self.federates_with),
            hint=self.hint,
            expires_at=self.expires_at,
        )


class Synced(msgspec.Struct, frozen=True):
    """All that an agent needs to know. `version` is a digest of the rest: the same over restarts of the server.

    `issuer` is that of JWT-SVIDs, `kid` of the key that signs them. When `generation` changes, certificates are
    replaced before their time. `partners`: bundles of other trust domains that the entries federate with. `adopted`:
    ids of the JWT keys of systems that this trust domain moves away from, whose tokens have issuers of their own.
    """

    version: str
    entries: list[WireEntry]
    bundle: str
    partners: dict[str, str]
    issuer: str
    kid: str
    generation: str
    adopted: list[str] = []


class SignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: str
    csr: bytes


class SignRequests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests: list[SignRequest]


class Signed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The chain, leaf first; or why not."""

    entry: str
    chain: list[bytes] = []
    code: str = ""
    reason: str = ""


class SignedAll(msgspec.Struct, frozen=True):
    svids: list[Signed]


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`source` is the process that recorded them; each event as `protocols.ocsf.encode` wrote it."""

    source: str
    events: list[msgspec.Raw]


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: str
    audience: list[str]


class Token(msgspec.Struct, frozen=True):
    """`kid` is the key that signed it."""

    token: str
    token_id: str
    issued_at: float
    expires_at: float
    kid: str


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event of an agent."""

    id: str
    type: str
    at: float
    success: bool
    severity: str = "info"
    reason: str = ""
    workload: str = ""
    details: dict[str, Any] = {}


class ToldAll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: list[Told]


encode = msgspec.json.encode


def read(body: bytes, kind: type[T]) -> T:
    """A request; raises BadInput `bad_request`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            "bad_request", f"the request can't be read: {str(error)[:200]}", "see docs/many-hosts.md"
        ) from None


def read_answer(body: bytes, kind: type[T]) -> T:
    """An answer; raises Unavailable `bad_answer`: a server that can't be understood is as one that is away."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable(
            "bad_answer", "the server's answer makes no sense", "see that both are of one version"
        ) from None


async def body(ask: Ask) -> bytes:
    """Raises BadInput `request_too_large` | `request_too_slow`."""
    try:
        async with asyncio.timeout(READ_WITHIN):
            return await ask.body(MAX_REQUEST, code="request_too_large", remedy="ask for less at a time")
    except TimeoutError:
        raise BadInput("request_too_slow", "the request did not come in time") from None
