"""Proofs of possession by DPoP (RFC 9449): each for one request, at one time, once.

Nonces are the server's clock under a MAC, so every instance knows those of the others: a new one each minute, good for
two. A proof without one is good where the profile doesn't demand it; one with a nonce that is none of ours never is.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection

from starlette.requests import Request

from rempart.crypto.dpop import AGE, AHEAD, origin_of, read_proof
from rempart.crypto.jws import Malformed
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.people.ports import OnceStore

from .profile import Profile

HEADER = "dpop"
NONCE_HEADER = "dpop-nonce"
_NONCE_EVERY = 60


class Dpop:
    """`key` makes nonces and is no other purpose's. `issuer` tells what people's public address is."""

    def __init__(
        self, once: OnceStore, clock: Clock, profile: Profile, *, key: bytes, issuer: str, others: Collection[str] = ()
    ) -> None:
        self._once, self._clock, self._profile, self._key = once, clock, profile, key
        self._bases = (origin_of(issuer), *others)

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
        now = self._clock.now()
        try:
            proof = read_proof(
                proofs[0],
                method=request.method,
                targets=[base + request.url.path for base in self._bases],
                now=now,
                algorithms=self._profile.algorithms,
                access_token=access_token,
            )
        except Malformed as error:
            raise _bad(str(error)) from None
        if proof.nonce is not None or self._profile.nonces:
            current = int(now) // _NONCE_EVERY
            if not any(_equal(proof.nonce, self._nonce(window)) for window in (current, current - 1, current + 1)):
                raise BadInput("use_dpop_nonce", "the proof needs the nonce of this server", "take it from DPoP-Nonce")
        if not await self._once.put("dpop", proof.seen, b"", now + AGE + AHEAD):
            raise _bad("its jti was used before")
        return proof.jkt

    def _nonce(self, window: int) -> str:
        stamp = window.to_bytes(6, "big")
        mac = hmac.digest(self._key, b"dpop-nonce" + stamp, "sha256")[:18]
        return base64.urlsafe_b64encode(stamp + mac).rstrip(b"=").decode()


def _equal(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _bad(why: str) -> BadInput:
    return BadInput("invalid_dpop_proof", f"the DPoP proof is refused: {why}", "make a new proof for this request")
