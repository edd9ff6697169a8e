"""Challenges of passkeys: bound to the purpose and to the browser that asked, short-lived, used once.

Asking stores nothing, so that a stranger who asks without end fills no table; the use of one is what is remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass, field

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Unauthenticated

from ..ports import OnceStore

LIFETIME = 300.0  # seconds
_LENGTH = 56  # random[16], end[8], MAC[32]


@dataclass(frozen=True)
class Challenges:
    """`key` authenticates challenges and is no other purpose's."""

    once: OnceStore
    clock: Clock
    key: bytes = field(repr=False)

    def make(self, purpose: str, binding: str) -> bytes:
        """`binding`: what the asking browser holds and others don't; 128 of the bits are random."""
        head = os.urandom(16) + struct.pack(">d", self.clock.now() + LIFETIME)
        return head + self._mac(head, purpose, binding)

    def check(self, challenge: bytes, purpose: str, binding: str) -> None:
        """Raises Unauthenticated `challenge_expired` for another purpose, browser or time."""
        head, mac = challenge[:24], challenge[24:]
        if len(challenge) != _LENGTH or not hmac.compare_digest(mac, self._mac(head, purpose, binding)):
            raise _expired()
        if _end(challenge) <= self.clock.now():
            raise _expired()

    async def use(self, challenge: bytes) -> None:
        """Once; to be called when all else was verified. Raises Unauthenticated `challenge_expired` the second time."""
        if not await self.once.put("passkey", hashlib.sha256(challenge).digest(), b"", _end(challenge)):
            raise _expired()

    def _mac(self, head: bytes, purpose: str, binding: str) -> bytes:
        text = head + purpose.encode() + b"\0" + hashlib.sha256(binding.encode("utf-8", "replace")).digest()
        return hmac.digest(self.key, text, "sha256")


def _end(challenge: bytes) -> float:
    end: float = struct.unpack(">d", challenge[16:24])[0]
    return end


def _expired() -> Unauthenticated:
    return Unauthenticated("challenge_expired", "this took too long or was not begun here", "try again")
