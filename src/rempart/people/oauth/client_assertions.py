"""`private_key_jwt`: a client proves itself by a short JWT of its own (RFC 7523 section 3, OpenID Connect Core 9)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from rempart.crypto.jws import Compact, Malformed, PublicKey, numeric_date, parse_compact
from rempart.kernel.clock import Clock
from rempart.people.ports import OnceStore

from .model import Client
from .profile import Profile

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST = 3660.0  # seconds that `exp` may be ahead: libraries take an hour
AHEAD = 15.0  # seconds that the client's clock may be ahead
MAX_JTI = 256
_MEMBERS = frozenset({"alg", "kid", "typ"})
_TYPES = (None, "JWT", "jwt", "client-authentication+jwt")


class ClientAssertions:
    """`issuer` is the audience that is always right; the endpoints' addresses are taken, too, unless the profile says
    no (FAPI 2.0 section 5.3.2.1)."""

    def __init__(self, once: OnceStore, clock: Clock, profile: Profile, *, issuer: str) -> None:
        self._once, self._clock, self._profile, self._issuer = once, clock, profile, issuer

    def read(self, assertion: str) -> tuple[Compact, dict[str, Any]]:
        """Not verified: only to learn which client it claims. Raises Malformed."""
        parsed = parse_compact(assertion, _MEMBERS, self._profile.algorithms)
        if parsed.header.get("typ") not in _TYPES:
            raise Malformed("wrong type")
        return parsed, parsed.claims()

    async def verify(self, client: Client, parsed: Compact, claims: dict[str, Any], address: str) -> None:
        """`address` is the endpoint's public URL. Raises Malformed with the reason."""
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            raise Malformed("iss and sub are not the client's id")
        if not any(key.verifies(parsed) for key in _keys(client, parsed.header.get("kid"))):
            raise Malformed("the signature is by no key of the client")
        audience = claims.get("aud")
        if isinstance(audience, list) and len(audience) == 1 and self._profile.name == "baseline":
            audience = audience[0]
        taken = {self._issuer}
        if self._profile.name == "baseline":
            taken |= {f"{self._issuer}/token", address}
        if not isinstance(audience, str) or audience not in taken:
            raise Malformed("aud is not this issuer alone")
        now = self._clock.now()
        ends = numeric_date(claims, "exp")
        if ends is None or not now < ends <= now + LONGEST:
            raise Malformed("exp is missing, over, or too far ahead")
        for name in ("nbf", "iat"):
            if (numeric_date(claims, name) or 0) > now + AHEAD:
                raise Malformed(f"{name} is ahead")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI:
            raise Malformed("jti is missing or too long")
        seen = hashlib.sha256(msgspec.json.encode([client.id, jti])).digest()
        if not await self._once.put("client-assertion", seen, b"", ends):
            raise Malformed("its jti was used before")


def _keys(client: Client, kid: object) -> list[PublicKey]:
    """Those that the assertion can be signed by: with a `kid` the one of that name, or those without a name."""
    return [
        _loaded(msgspec.json.encode(jwk))
        for jwk in client.jwks
        if kid is None or jwk.get("kid") is None or jwk["kid"] == kid
    ]


@lru_cache(maxsize=256)
def _loaded(jwk: bytes) -> PublicKey:
    return PublicKey.load(msgspec.json.decode(jwk))
