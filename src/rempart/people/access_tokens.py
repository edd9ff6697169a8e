"""Access tokens: short-lived, signed, self-contained (RFC 9068)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from rempart.crypto.jose import Claims, verify_access_token
from rempart.kernel.clock import Clock
from rempart.kernel.ids import new_id

from .model import FIRST_PARTY, Account
from .signing_keys import SigningKeys

LONGEST_TTL = 86400  # seconds, whatever a client is registered with
_REMEMBERED = 1024  # tokens, some 3 KB each
SESSION = "session"  # the scope of one's own session: all that the role may; other clients get less


class AccessTokens:
    """`issuer` and `audience` (the trust domain) are exact strings; `ttl` in seconds."""

    def __init__(self, keys: SigningKeys, clock: Clock, *, issuer: str, audience: str, ttl: int) -> None:
        self._keys, self._clock = keys, clock
        self.issuer, self.audience, self.ttl = issuer, audience, ttl
        self._verified: OrderedDict[str, Claims] = OrderedDict()
        self._verified_by = keys.jwks

    def mint(
        self,
        account: Account | None,
        *,
        scope: str,
        session: str = "",
        amr: Sequence[str] = (),
        auth_time: float = 0,
        acr: str = "",
        client_id: str = FIRST_PARTY,
        audience: Sequence[str] = (),
        ttl: int | None = None,
        confirmation: Mapping[str, str] | None = None,
        actor: Mapping[str, Any] | None = None,
        token_id: str | None = None,
    ) -> str:
        """Signed with the ring's key for access tokens. Without account the client acts for itself and is the `sub`.

        Role and limit, those that the account has now, are in tokens of scope `session` only. `ttl` in seconds and
        `audience` are the issuer's where none is given; `confirmation` is `cnf`, `actor` is `act` (RFC 8693).
        """
        now = int(self._clock.now())
        audience = tuple(audience) or (self.audience,)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": account.id if account else client_id,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "client_id": client_id,
            "scope": scope,
            "iat": now,
            "exp": now + (self.ttl if ttl is None else ttl),
            "jti": token_id or new_id("tok"),
        }
        if account is not None:
            claims |= {"auth_time": int(auth_time), "amr": list(amr), "epoch": account.epoch}
            if SESSION in scope.split():
                claims["role"] = account.role
                if account.payment_limit is not None:
                    claims["payment_limit"] = account.payment_limit
        optional = {"sid": session, "acr": acr, "cnf": confirmation, "act": actor}
        claims |= {name: value for name, value in optional.items() if value}
        return self._keys.access_signer.sign(claims)

    def verify(self, token: str) -> Claims:
        """One for the trust domain; raises Unauthenticated `invalid_token`."""
        return verify_access_token(token, self._keys.jwks, self.issuer, self.audience, self._clock.now())

    def read(self, token: str) -> Claims:
        """One for anybody: who calls must care for `aud`. Raises Unauthenticated `invalid_token`.

        A token comes many times: what was verified is remembered until it expires or the key set changes.
        """
        jwks, now = self._keys.jwks, self._clock.now()
        if jwks is not self._verified_by:
            self._verified.clear()
            self._verified_by = jwks
        known = self._verified.get(token)
        if known is not None and known.issued_at <= now < known.expires_at:
            return known
        claims = verify_access_token(token, jwks, self.issuer, None, now)
        self._verified[token] = claims
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return claims
