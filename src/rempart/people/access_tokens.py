"""Access tokens: short-lived, signed, self-contained (RFC 9068)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.crypto.jose import Claims, verify_access_token
from rempart.kernel.clock import Clock
from rempart.kernel.ids import new_id

from .model import FIRST_PARTY, Account
from .signing_keys import SigningKeys

SESSION = "session"  # the scope of one's own session: all that the role may; other clients get less


class AccessTokens:
    """`issuer` and `audience` are exact strings; `ttl` in seconds."""

    def __init__(self, keys: SigningKeys, clock: Clock, *, issuer: str, audience: str, ttl: int) -> None:
        self._keys, self._clock = keys, clock
        self.issuer, self.audience, self.ttl = issuer, audience, ttl

    def mint(self, account: Account, *, session: str, amr: Sequence[str], auth_time: float, scope: str) -> str:
        """Signed with the active key; role and limit are those that the account has now."""
        now = int(self._clock.now())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": account.id,
            "aud": self.audience,
            "client_id": FIRST_PARTY,
            "role": account.role,
            "scope": scope,
            "iat": now,
            "exp": now + self.ttl,
            "auth_time": int(auth_time),
            "amr": list(amr),
            "jti": new_id("tok"),
            "sid": session,
            "epoch": account.epoch,
        }
        if account.payment_limit is not None:
            claims["payment_limit"] = account.payment_limit
        return self._keys.signer.sign(claims)

    def verify(self, token: str) -> Claims:
        """Raises Unauthenticated `invalid_token`."""
        return verify_access_token(token, self._keys.jwks, self.issuer, self.audience, self._clock.now())
