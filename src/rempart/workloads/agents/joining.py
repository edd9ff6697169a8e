"""How an agent proves what it is before it has an SVID: join token, possession of a key, Kubernetes service account.

A proof is bound to the key that the SVID is for, so that who relays it gets nothing: the nonce and the certificate
request are what is signed; tokens are shown only to a server whose id was verified.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rempart.crypto.possession import verify_possession
from rempart.crypto.svid import verify_svid
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Denied, Unauthenticated
from rempart.workloads.ports import ServiceAccountTokens

from .messages import Join
from .roster import Roster

NONCE_TTL = 60.0
MAX_NONCES = 4096


@dataclass(frozen=True, slots=True)
class Attested:
    """Who it is from now on, and what is known of it, `name:value`."""

    spiffe_id: str
    facts: tuple[str, ...] = ()
    rejoins: bool = False


class JoinMethod(Protocol):
    async def attest(self, join: Join) -> Attested:
        """Raises Unauthenticated, Denied, BadInput, Unavailable."""


class Nonces:
    """Each good for one answer within a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[str, float] = OrderedDict()

    def give(self) -> str:
        """Where too many are open the oldest ends: who asks for thousands, and answers none, keeps nobody out."""
        now = self._clock.now()
        while self._open and (next(iter(self._open.values())) <= now or len(self._open) >= MAX_NONCES):
            self._open.popitem(last=False)
        nonce = secrets.token_urlsafe(24)
        self._open[nonce] = now + NONCE_TTL
        return nonce

    def take(self, nonce: str) -> None:
        """Raises Unauthenticated `nonce_refused`."""
        if self._open.pop(nonce, 0.0) <= self._clock.now():
            raise Unauthenticated("nonce_refused", "the nonce is unknown, used or expired", "ask for a new one")


def signed_message(nonce: str, csr: bytes) -> bytes:
    """What the key that is possessed signs."""
    return b"rempart agent join v1\0" + nonce.encode() + b"\0" + hashlib.sha256(csr).digest()


class JoinToken:
    """`join_token`: made by the operator, good once."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    async def attest(self, join: Join) -> Attested:
        return Attested((await self._roster.take_token(join.token)).spiffe_id)


class Possession:
    """`x509pop`: a certificate of a CA that the operator named. The same certificate is the same agent."""

    def __init__(self, roster: Roster, nonces: Nonces, roots: Sequence[bytes], clock: Clock) -> None:
        self._roster, self._nonces, self._roots, self._clock = roster, nonces, tuple(roots), clock

    async def attest(self, join: Join) -> Attested:
        self._nonces.take(join.nonce)
        message = signed_message(join.nonce, join.csr)
        who = verify_possession(join.chain, self._roots, message, join.signature, now=self._clock.now())
        facts = [f"x509pop:ca:fingerprint:{who.root}"]
        if who.common_name.isprintable() and 0 < len(who.common_name) <= 256:
            facts.append(f"x509pop:subject:cn:{who.common_name}")
        return Attested(self._roster.agent_id("x509pop", who.fingerprint), tuple(facts), rejoins=True)


class ExistingSvid:
    """`svid`: an X.509-SVID of this trust domain, of an id at or below `allowed`. `roots` gives those of now."""

    def __init__(
        self,
        roster: Roster,
        nonces: Nonces,
        roots: Callable[[], Sequence[bytes]],
        allowed: Collection[str],
        clock: Clock,
    ) -> None:
        self._roster, self._nonces, self._roots = roster, nonces, roots
        self._allowed, self._clock = tuple(allowed), clock

    async def attest(self, join: Join) -> Attested:
        self._nonces.take(join.nonce)
        now, roots, message = self._clock.now(), self._roots(), signed_message(join.nonce, join.csr)
        found = verify_svid(join.chain, roots, trust_domain=self._roster.trust_domain, now=now)
        verify_possession(join.chain, roots, message, join.signature, now=now)
        if not any((str(found) + "/").startswith(one.rstrip("/") + "/") for one in self._allowed):
            raise Denied("svid_not_allowed", f"{found} may not join as an agent", "see [workloads.agents] svid")
        return Attested(self._roster.agent_id("svid", *found.path.strip("/").split("/")), rejoins=True)


@dataclass(frozen=True, slots=True)
class Cluster:
    """`allowed`: service accounts that agents run as, `namespace:name`."""

    tokens: ServiceAccountTokens
    allowed: frozenset[str]
    audience: str


class Kubernetes:
    """`k8s`: a projected service-account token of a pod; each node of a cluster is one agent. Who can read the token of
    an agent's pod can be that node."""

    def __init__(self, roster: Roster, clusters: Mapping[str, Cluster]) -> None:
        self._roster, self._clusters = roster, clusters

    async def attest(self, join: Join) -> Attested:
        cluster = self._clusters.get(join.cluster)
        if cluster is None:
            raise Unauthenticated("k8s_token_refused", f"the cluster {join.cluster[:80]!r} is not known here")
        account = await cluster.tokens.review(join.token, cluster.audience)
        who = f"{account.namespace}:{account.name}"
        if who not in cluster.allowed:
            raise Denied("k8s_account_not_allowed", f"the service account {who} is no agent's", "see service_accounts")
        facts = {
            "cluster": join.cluster,
            "agent_ns": account.namespace,
            "agent_sa": account.name,
            "agent_pod_name": account.pod_name,
            "agent_pod_uid": account.pod_uid,
            "agent_node_name": account.node_name,
            "agent_node_uid": account.node_uid,
        }
        named = tuple(f"k8s_psat:{name}:{value}" for name, value in facts.items())
        return Attested(self._roster.agent_id("k8s", join.cluster, account.node_uid), named, rejoins=True)


class Joining:
    """Every method that this server takes, by its name."""

    def __init__(self, methods: dict[str, JoinMethod]) -> None:
        self._methods = methods

    async def attest(self, join: Join) -> Attested:
        method = self._methods.get(join.method)
        if method is None:
            known = ", ".join(self._methods)
            raise BadInput("bad_join_method", f"no agent joins by {join.method[:80]!r} here", f"there is: {known}")
        return await method.attest(join)
