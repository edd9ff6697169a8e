"""Proofs of a browser that it holds its device's key (W3C Device Bound Session Credentials, "DBSC proof").

A JWS of `typ` dbsc+jwt whose `jti` is the challenge. Registering, it carries its new key; later it carries none that
counts. Whether the challenge is ours and fresh is for the caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

from .jws import Compact, Malformed, PublicKey, parse_compact

ALGORITHMS = ("ES256", "RS256")
MAX_CHALLENGE = 256
_MEMBERS = frozenset({"typ", "alg", "jwk", "kid"})


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """`jwk` is the public key as JSON text, `thumbprint` its RFC 7638 one."""

    thumbprint: str
    jwk: str = field(repr=False)


class NotProved(Exception):
    """The proof is well-formed and by another key."""


def read_registration(text: str) -> tuple[DeviceKey, str]:
    """A new key that signed the challenge, and the challenge. Raises Malformed."""
    proof = _read(text)
    given = proof.header.get("jwk")
    if not isinstance(given, dict):
        raise Malformed("no jwk")
    public: Mapping[str, Any] = {name: given[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in given}
    try:
        key = PublicKey.load(given)
        loaded = PublicKey.load(public)
    except BadInput as error:
        raise Malformed(error.reason) from None
    if not key.verifies(proof):
        raise Malformed("the signature is wrong, or the algorithm is not that of the key")
    return DeviceKey(loaded.thumbprint(), json.dumps(public, separators=(",", ":"))), _challenge(proof)


def read_refresh(text: str, key: DeviceKey) -> str:
    """The challenge that this key signed. Raises Malformed, and NotProved where another key did."""
    proof = _read(text)
    challenge = _challenge(proof)
    public = strict_json.loads(key.jwk.encode())
    assert isinstance(public, dict)  # nosec B101 - what `read_registration` wrote, out of a sealed record
    if not PublicKey.load(public).verifies(proof):
        raise NotProved
    return challenge


def _read(text: str) -> Compact:
    proof = parse_compact(text, _MEMBERS, ALGORITHMS)
    if proof.header.get("typ") != "dbsc+jwt":
        raise Malformed("typ is not dbsc+jwt")
    return proof


def _challenge(proof: Compact) -> str:
    challenge = proof.claims().get("jti")
    if not isinstance(challenge, str) or not 1 <= len(challenge) <= MAX_CHALLENGE or not challenge.isascii():
        raise Malformed("jti is missing or too long")
    return challenge
