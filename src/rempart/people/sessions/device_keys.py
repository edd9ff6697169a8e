"""A browser's session bound to a key of its device (W3C Device Bound Session Credentials).

Beside the session's cookie the browser holds one that lives for minutes; it gets the next one for a challenge signed by
its key. So whoever copies both cookies has minutes, and whoever copies the session's alone has nothing. Challenges and
short cookies are the server's clock under a MAC: every instance knows those of the others. Each challenge counts once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct

from rempart.kernel.clock import Clock
from rempart.people.ports import OnceStore

from .model import Session

PROOF_LIFE = 300  # seconds that the short cookie is good for
CHALLENGE_LIFE = 600.0  # seconds: longer than the cookie, since the next challenge is handed out with it
_STAMP = struct.Struct(">Q16s")  # until when, in seconds; random
_MAC = 16  # bytes


class DeviceKeys:
    """`key` makes challenges and cookies and is no other purpose's."""

    def __init__(self, once: OnceStore, clock: Clock, *, key: bytes) -> None:
        self._once, self._clock, self._key = once, clock, key

    def challenge_for_new(self, token: str) -> str:
        """For a browser that was just given this session's token, to register its key."""
        return self._stamped(_of_token(token), CHALLENGE_LIFE)

    def challenge(self, session: Session) -> str:
        return self._stamped(_of_session(session), CHALLENGE_LIFE)

    async def takes_new(self, challenge: str, token: str) -> bool:
        """Whether it is ours for that token, fresh, and for the first time here. Raises Unavailable."""
        return await self._takes(challenge, _of_token(token))

    async def takes(self, challenge: str, session: Session) -> bool:
        """As `takes_new`, for a session that is bound."""
        return await self._takes(challenge, _of_session(session))

    def proof(self, session: Session) -> str:
        """What the short cookie holds."""
        return self._stamped(_of_cookie(session), PROOF_LIFE)

    def proves(self, cookie: str, session: Session) -> bool:
        return self._until(cookie, _of_cookie(session)) is not None

    async def _takes(self, challenge: str, context: bytes) -> bool:
        until = self._until(challenge, context)
        if until is None:
            return False
        return await self._once.put("device-challenge", hashlib.sha256(challenge.encode()).digest(), b"", until + 60)

    def _stamped(self, context: bytes, life: float) -> str:
        stamp = _STAMP.pack(int(self._clock.now() + life), os.urandom(16))
        return base64.urlsafe_b64encode(stamp + self._mac(stamp, context)).rstrip(b"=").decode()

    def _until(self, text: str, context: bytes) -> int | None:
        """Until when it is good; None when it is not ours, for something else, or over."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        except ValueError:
            return None
        stamp, mac = raw[: _STAMP.size], raw[_STAMP.size :]
        if len(stamp) < _STAMP.size or not hmac.compare_digest(mac, self._mac(stamp, context)):
            return None
        until: int = _STAMP.unpack(stamp)[0]
        return until if self._clock.now() < until else None

    def _mac(self, stamp: bytes, context: bytes) -> bytes:
        return hmac.digest(self._key, stamp + context, "sha256")[:_MAC]


def _of_token(token: str) -> bytes:
    return b"new\0" + hashlib.sha256(token.encode()).digest()


def _of_session(session: Session) -> bytes:
    return f"again\0{session.id}\0{session.key}".encode()


def _of_cookie(session: Session) -> bytes:
    return f"cookie\0{session.id}\0{session.key}".encode()
