"""Proofs of possession by DPoP (RFC 9449): each for one request, at one time, once.

Nonces are the server's clock under a MAC, so every instance knows those of the others: a new one each minute, good for
two. A proof without one is good where the profile doesn't demand it; one with a nonce that is none of ours never is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from rempart.crypto.jws import Compact, Malformed, PublicKey, numeric_date, parse_compact
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.people.ports import OnceStore

from .profile import Profile

HEADER = "dpop"
NONCE_HEADER = "dpop-nonce"
AGE = 60.0  # seconds that a proof may be old
AHEAD = 15.0  # seconds that the client's clock may be ahead
MAX_JTI = 256
_NONCE_EVERY = 60
_MEMBERS = frozenset({"typ", "alg", "jwk"})


class Dpop:
    """`key` makes nonces and is no other purpose's. `issuer` tells what people's public address is."""

    def __init__(self, once: OnceStore, clock: Clock, profile: Profile, *, key: bytes, issuer: str) -> None:
        self._once, self._clock, self._profile, self._key = once, clock, profile, key
        self._base = _origin_of(issuer)

    def nonce(self) -> str:
        """For the answer's header `DPoP-Nonce` (section 8)."""
        return self._nonce(int(self._clock.now()) // _NONCE_EVERY)

    async def proved(self, request: Request, access_token: str | None = None) -> str:
        """The thumbprint of the key that the request proves, "" when it carries no proof (section 4.3).

        With `access_token` the proof must be for it. Raises BadInput `invalid_dpop_proof` or `use_dpop_nonce`.
        """
        proofs = request.headers.getlist(HEADER)
        if not proofs:
            return ""
        if len(proofs) > 1:
            raise _bad("more than one DPoP header")
        try:
            proof = parse_compact(proofs[0], _MEMBERS, self._profile.algorithms)
            if proof.header.get("typ") != "dpop+jwt":
                raise _bad("typ is not dpop+jwt")
            jwk = proof.header.get("jwk")
            if not isinstance(jwk, dict):
                raise _bad("no jwk")
            key = PublicKey.load(jwk)
            if not key.verifies(proof):
                raise _bad("the signature is wrong, or the algorithm is not that of the key")
            jti = self._check(proof, request, access_token)
        except Malformed as error:
            raise _bad(str(error)) from None
        except BadInput as error:
            if error.code != "bad_key":
                raise
            raise _bad(error.reason) from None
        jkt = key.thumbprint()
        seen = hashlib.sha256(f"{jkt} {jti}".encode()).digest()
        if not await self._once.put("dpop", seen, b"", self._clock.now() + AGE + AHEAD):
            raise _bad("its jti was used before")
        return jkt

    def _check(self, proof: Compact, request: Request, access_token: str | None) -> str:
        claims, now = proof.claims(), self._clock.now()
        if claims.get("htm") != request.method:
            raise _bad("htm is not the request's method")
        if not isinstance(claims.get("htu"), str) or _target(claims["htu"]) != self._base + request.url.path:
            raise _bad("htu is not the request's address")
        at = numeric_date(claims, "iat")
        if at is None or not now - AGE <= at <= now + AHEAD:
            raise _bad("iat is missing, too old or ahead of the server's clock")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI:
            raise _bad("jti is missing or too long")
        if access_token is not None and not _equal(claims.get("ath"), _ath(access_token)):
            raise _bad("ath is not the access token's")
        nonce = claims.get("nonce")
        if nonce is None and not self._profile.nonces:
            return jti
        current = int(now) // _NONCE_EVERY
        if not any(_equal(nonce, self._nonce(window)) for window in (current, current - 1, current + 1)):
            raise BadInput("use_dpop_nonce", "the proof needs the nonce of this server", "take it from DPoP-Nonce")
        return jti

    def _nonce(self, window: int) -> str:
        stamp = window.to_bytes(6, "big")
        return _b64(stamp + hmac.digest(self._key, b"dpop-nonce" + stamp, "sha256")[:18])


def _ath(access_token: str) -> str:
    return _b64(hashlib.sha256(access_token.encode("ascii", "replace")).digest())


def _equal(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _target(uri: str) -> str:
    """Without query and fragment, scheme and host in lower case, no default port (RFC 3986 section 6.2)."""
    try:
        return _origin_of(uri) + urlsplit(uri).path
    except ValueError:
        return ""


def _origin_of(uri: str) -> str:
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port
    name = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}.get(parts.scheme)
    if parts.username is not None:
        raise ValueError("a user in a URI")
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, default) else "")


def _bad(why: str) -> BadInput:
    return BadInput("invalid_dpop_proof", f"the DPoP proof is refused: {why}", "make a new proof for this request")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
