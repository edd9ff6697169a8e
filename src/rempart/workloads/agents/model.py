"""What a server knows of its agents, and what an agent is told by its server."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rempart.kernel.errors import BadInput
from rempart.workloads.model import Selector

AGENTS = "/rempart/agent/"
"""Paths below it are agents' own: nothing is registered there."""
GRACE = 60.0
SERVER = "/rempart/server"
"""The path of the id that servers answer agents under."""


def selectors_of(spiffe_id: str, facts: Sequence[str]) -> frozenset[Selector]:
    """What a node alias may ask of an agent: what it was attested by, and its id."""
    found = {Selector("spiffe_id", *spiffe_id.split(":", 1))}
    for fact in facts:
        with contextlib.suppress(BadInput):  # of a method that this version doesn't know
            found.add(Selector.parse(fact))
    return frozenset(found)


def source_of(process: str, agent: str) -> str:
    """The name in the record of a process on the host of that agent: `PROCESS@METHOD/NAME`."""
    return f"{process}@{agent.partition(AGENTS)[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """`method` is what it was attested by; `facts` what that found out, as `name:value`. Times in seconds since the
    epoch. `serial` is that of the SVID it uses, `next_serial` of a newer one that it was sent and hasn't used yet;
    `old_serial`, of the one before, is good until `old_until`: questions on older connections are still under way.

    `rejoins`: its evidence is good for more than one time, so that it comes back by itself after an eviction.
    """

    spiffe_id: str
    method: str
    facts: tuple[str, ...] = ()
    serial: str
    next_serial: str = ""
    old_serial: str = ""
    old_until: float = 0.0
    expires_at: float
    joined_at: float
    banned: bool = False
    rejoins: bool = False

    def sent(self, serial: str, expires_at: float) -> Agent:
        """It was sent another SVID: the one that it uses stays good until it uses this one."""
        return replace(self, next_serial=serial, expires_at=expires_at)

    def used(self, serial: str, now: float) -> Agent | None:
        """It uses the SVID of this serial; None when that is none of its own: somebody has an old one."""
        if serial == self.next_serial:
            return replace(self, serial=serial, next_serial="", old_serial=self.serial, old_until=now + GRACE)
        known = serial == self.serial or (serial == self.old_serial and now < self.old_until)
        return self if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """`digest` is the SHA-256 of the token in hexadecimal: who reads the store can't join. The token has 256 random
    bits, so that a slow hash would add nothing."""

    digest: str
    spiffe_id: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """Whom a projected service-account token is of: the pod it was mounted into, and that pod's node."""

    namespace: str
    name: str
    pod_name: str
    pod_uid: str
    node_name: str
    node_uid: str
