"""What a DPoP proof must be, whoever checks it (RFC 9449 section 4.3): people's endpoints, and the PDP at the gateway.

Whether its `jti` was seen before and its nonce is ours is for the caller.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from rempart.kernel.errors import BadInput

from .jws import Compact, Malformed, PublicKey, numeric_date, parse_compact

AGE = 60.0  # seconds that a proof may be old
AHEAD = 15.0  # seconds that the client's clock may be ahead
MAX_JTI = 256
_MEMBERS = frozenset({"typ", "alg", "jwk"})


@dataclass(frozen=True, slots=True)
class Proof:
    """`jkt` is the key's RFC 7638 thumbprint; `seen` stands for this proof and no other; `nonce` as it came."""

    jkt: str
    seen: bytes
    nonce: object
    issued_at: float


def read_proof(
    text: str,
    *,
    method: str,
    targets: Collection[str],
    now: float,
    algorithms: Collection[str],
    access_token: str | None = None,
) -> Proof:
    """A proof by the key in it, for this method and one of `targets` (the public addresses of what is asked, without
    query) and at this time.

    With `access_token` it must be for that one (`ath`). Raises Malformed with the reason.
    """
    proof = parse_compact(text, _MEMBERS, tuple(algorithms))
    jwk = proof.header.get("jwk")
    if proof.header.get("typ") != "dpop+jwt":
        raise Malformed("typ is not dpop+jwt")
    if not isinstance(jwk, dict):
        raise Malformed("no jwk")
    try:
        key = PublicKey.load(jwk)
    except BadInput as error:
        raise Malformed(error.reason) from None
    if not key.verifies(proof):
        raise Malformed("the signature is wrong, or the algorithm is not that of the key")
    return _read_claims(proof, key.thumbprint(), method, targets, now, access_token)


def _read_claims(
    proof: Compact, jkt: str, method: str, targets: Collection[str], now: float, access_token: str | None
) -> Proof:
    claims = proof.claims()
    if claims.get("htm") != method:
        raise Malformed("htm is not the request's method")
    htu, at, jti = claims.get("htu"), numeric_date(claims, "iat"), claims.get("jti")
    if not isinstance(htu, str) or normal_address(htu) not in targets:
        raise Malformed("htu is not the request's address")
    if at is None or not now - AGE <= at <= now + AHEAD:
        raise Malformed("iat is missing, too old or ahead of the server's clock")
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI:
        raise Malformed("jti is missing or too long")
    if access_token is not None and not _equal(claims.get("ath"), _hash_of(access_token)):
        raise Malformed("ath is not the access token's")
    seen = hashlib.sha256(f"{jkt} {jti}".encode("utf-8", "surrogatepass")).digest()
    return Proof(jkt, seen, claims.get("nonce"), at)


def normal_address(uri: str) -> str:
    """Without query and fragment, scheme and host in lower case, no default port (RFC 3986 6.2); "" for none."""
    try:
        return origin_of(uri) + urlsplit(uri).path
    except ValueError:
        return ""


def origin_of(uri: str) -> str:
    """`https://host[:port]`; ValueError where there is a user."""
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port
    name = f"[{host}]" if ":" in host else host
    if parts.username is not None:
        raise ValueError("a user in a URI")
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, default) else "")


def _hash_of(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _equal(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
