"""What a server knows of its agents, and what an agent is told by its server."""

from __future__ import annotations

from dataclasses import dataclass, replace

AGENTS = "/rempart/agent/"
"""Paths below it are agents' own: nothing is registered there."""
SERVER = "/rempart/server"
"""The path of the id that servers answer agents under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """`method` is what it was attested by; `facts` what that found out, as `name:value`. Times in seconds since the
    epoch. `serial` is that of the SVID it uses, `next_serial` of a newer one that it was sent and hasn't used yet.

    `rejoins`: its evidence is good for more than one time, so that it comes back by itself after an eviction.
    """

    spiffe_id: str
    method: str
    facts: tuple[str, ...] = ()
    serial: str
    next_serial: str = ""
    expires_at: float
    joined_at: float
    banned: bool = False
    rejoins: bool = False

    def sent(self, serial: str, expires_at: float) -> Agent:
        """It was sent another SVID: the one that it uses stays good until it uses this one."""
        return replace(self, next_serial=serial, expires_at=expires_at)

    def used(self, serial: str) -> Agent | None:
        """It uses the SVID of this serial; None when that is not one of its two: somebody has an old one."""
        if serial == self.next_serial:
            return replace(self, serial=serial, next_serial="")
        return self if serial == self.serial else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """`digest` is the SHA-256 of the token in hexadecimal: who reads the store can't join. The token has 256 random
    bits, so that a slow hash would add nothing."""

    digest: str
    spiffe_id: str
    expires_at: float
