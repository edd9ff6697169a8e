"""Proofs of possession at the gateway (RFC 9449 section 7, RFC 8705 section 3): who sends a bound token must prove its
key, each time anew, or come over TLS with its certificate.

What was seen is remembered in memory for as long as it could be sent again, and while that is full no other is taken;
proofs from before this process began are refused, so that a restart forgets nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from rempart.crypto.dpop import AGE, AHEAD, origin_of, read_proof
from rempart.crypto.jws import Malformed
from rempart.kernel.clock import Clock

from .claims import Claims

ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "PS256", "RS256")
MOST = 200_000  # over 75 s; about 30 MB


@dataclass(frozen=True, slots=True)
class Sent:
    """What came with a request: two headers, and SHA-256 of the client's certificate in hex, as the gateway saw it."""

    authorization: bytes
    dpop: bytes | None
    certificate: bytes | None


class Proofs:
    """`issuer` tells the gateway's public address, `others` more of its own. One event loop."""

    def __init__(self, clock: Clock, issuer: str, others: Collection[str] = ()) -> None:
        self._clock, self._bases = clock, (origin_of(issuer), *others)
        self._began = clock.now()
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def why_not(self, claims: Claims, sent: Sent, method: str, path: str, *, proved: bool | None) -> str:
        """Why this token is not accepted as it was sent, "" for yes. `proved` None: see yourself; otherwise whether it
        comes from the gateway, which has seen the proof: nobody else behind it can prove the key."""
        scheme, _, token = sent.authorization.partition(b" ")
        if not claims.bound:
            return "not bound to a key: it is no DPoP token"
        if not (claims.jkt or claims.x5t) or (scheme.lower() == b"dpop") is not bool(claims.jkt):
            return "bound to a key: it is no bearer token"
        if proved is not None:
            return "" if proved else "bound to a key that only its holder can prove: exchange it"
        if claims.x5t and not _same_certificate(sent.certificate, claims.x5t):
            return "bound to a certificate that it did not come with"
        if not claims.jkt:
            return ""
        try:
            self.verify(sent.dpop, method, path, token.strip().decode("latin-1"), claims.jkt)
        except Malformed as error:
            return f"the DPoP proof is refused: {error}"
        return ""

    def verify(self, header: bytes | None, method: str, path: str, access_token: str, jkt: str) -> None:
        """That the proof is by the key `jkt`, for this request and token, and came only now. Raises Malformed."""
        if not header:
            raise Malformed("no DPoP proof")
        now = self._clock.now()
        proof = read_proof(
            header.decode("latin-1"),
            method=method,
            targets=[base + path for base in self._bases],
            now=now,
            algorithms=ALGORITHMS,
            access_token=access_token,
        )
        if proof.jkt != jkt:
            raise Malformed("the proof is by another key")
        if proof.issued_at < int(self._began):
            raise Malformed("the proof was made before the PDP began")
        while self._seen and next(iter(self._seen.values())) <= now:
            self._seen.popitem(last=False)
        if proof.seen in self._seen:
            raise Malformed("its jti was used before")
        if len(self._seen) >= MOST:
            raise Malformed("too many proofs at once: try again in a moment")
        self._seen[proof.seen] = now + AGE + AHEAD


def _same_certificate(digest: bytes | None, x5t: str) -> bool:
    try:
        text = base64.urlsafe_b64encode(binascii.unhexlify(digest or b"")).rstrip(b"=")
    except binascii.Error:
        return False
    return bool(digest) and hmac.compare_digest(text, x5t.encode("utf-8", "replace"))
