"""Compact JSON Web Signatures as everybody here reads them: strict to the last bit (RFC 7515, RFC 8725).

What is refused before any key is touched: other than three non-empty parts of canonical base64url, a header that is no
strict JSON object, that names a member twice or one that the caller doesn't take (so no `crit`, `b64`, `jku`, `x5u`,
`x5c`, and `jwk` only for proofs of possession), an algorithm that is not on the list. A key has its algorithms: a
signature by another is refused, too. joserfc computes the signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.util import urlsafe_b64decode

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

MAX_TOKEN = 8192  # characters; Envoy takes headers of up to 60 KiB together
SIGNATURES = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
_MAX_HEADER = 2048  # characters: a JWK of 4096 bits with its neighbours
_FAR_FUTURE = 1 << 40  # seconds; keeps arithmetic on times exact in a float
_PART = re.compile(r"[A-Za-z0-9_-]+")
_RSA_BITS = (2048, 4096)  # below it is weak, above it costs too much to verify
_FOR = {
    "RSA": frozenset({"RS256", "PS256"}),
    "EC P-256": frozenset({"ES256"}),
    "OKP Ed25519": frozenset({"EdDSA", "Ed25519"}),  # RFC 9864 gave the second name to the same algorithm
}
_PUBLIC = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}  # RFC 7638 order
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi")


class Malformed(ValueError):
    """The text says why, without quoting more than a name."""


@dataclass(frozen=True, slots=True)
class Compact:
    """A JWS whose signature was not looked at yet."""

    header: Mapping[str, Any]
    payload: str = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def claims(self) -> dict[str, Any]:
        """The payload as a strict JSON object; raises Malformed."""
        return _object(self.payload, "claims")


def parse_compact(token: str, members: frozenset[str], algorithms: frozenset[str] | tuple[str, ...]) -> Compact:
    """Split and check what needs no key; `members` are the header's possible ones. Raises Malformed."""
    if not isinstance(token, str) or not token.isascii() or len(token) > MAX_TOKEN:
        raise Malformed("malformed: too long or not ASCII")
    parts = token.split(".")
    if len(parts) != 3 or not all(map(_PART.fullmatch, parts)) or len(parts[0]) > _MAX_HEADER:
        raise Malformed("malformed: not three parts")
    header = _object(parts[0], "header")
    foreign = sorted(set(header) - members)
    if foreign:
        raise Malformed(f"header not allowed: {foreign[0][:40]!r}")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Malformed("algorithm not allowed")
    try:
        signature = urlsafe_b64decode(parts[2].encode())
    except (binascii.Error, ValueError):
        raise Malformed("malformed: the signature is not base64url") from None
    return Compact(header, parts[1], token.rpartition(".")[0].encode(), signature)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`algorithms` are those that it may be used with: one, or the two of an RSA key that names none."""

    algorithms: frozenset[str]
    _key: Key = field(repr=False)

    @staticmethod
    def load(jwk: Mapping[str, Any]) -> PublicKey:
        """Raises BadInput `bad_key`: private or symmetric, of a kind that isn't used, weak, or not readable."""
        if any(name in jwk for name in _PRIVATE):
            raise BadInput("bad_key", "this JWK holds a private key", "give its public part only")
        return PublicKey(allowed_with(jwk), import_key(jwk))

    def verifies(self, token: Compact) -> bool:
        algorithm = token.header.get("alg")
        if algorithm not in self.algorithms:
            return False
        try:
            return bool(jws.JWSRegistry.algorithms[algorithm].verify(token.signing_input, token.signature, self._key))
        except (JoseError, ValueError, TypeError):
            return False

    def thumbprint(self) -> str:
        return thumbprint(self._key.as_dict(private=False))


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638, SHA-256 in base64url."""
    text = json.dumps({name: jwk[name] for name in _PUBLIC[str(jwk["kty"])]}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def allowed_with(jwk: Mapping[str, Any]) -> frozenset[str]:
    """The algorithms of this JWK; raises BadInput `bad_key`."""
    fitting = _FOR.get(f"{jwk.get('kty')} {jwk.get('crv', '')}".rstrip(), frozenset())
    named = jwk.get("alg")
    algorithms = fitting if named is None or "EdDSA" in fitting else fitting & {named}
    operations = jwk.get("key_ops", ["verify"])
    usable = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and {"sign", "verify"} & set(operations)
    if not algorithms or (named is not None and named not in fitting) or not usable:
        raise BadInput("bad_key", "this JWK is of a kind that Rempart doesn't use", "use ES256, EdDSA, PS256 or RS256")
    return algorithms


def import_key(jwk: Mapping[str, Any]) -> Key:
    """Public or private; raises BadInput `bad_key`. Of its members only those that make the key are read."""
    kind: type[RSAKey] | type[ECKey] | type[OKPKey]
    kind = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}[str(jwk.get("kty"))]  # type: ignore[assignment]  # mypy joins the three to `type`
    names = {*_PUBLIC[str(jwk["kty"])], *_PRIVATE}
    modulus = jwk.get("n", "")
    if not isinstance(modulus, str) or len(modulus) * 6 > _RSA_BITS[1] + 16:
        raise BadInput("bad_key", f"an RSA key has {_RSA_BITS[0]} to {_RSA_BITS[1]} bits")
    try:
        key = kind.import_key({name: jwk[name] for name in names if isinstance(jwk.get(name), str)})
        if isinstance(key, RSAKey) and key.raw_value.key_size < _RSA_BITS[0]:
            raise BadInput("bad_key", f"an RSA key has {_RSA_BITS[0]} to {_RSA_BITS[1]} bits")
    except (JoseError, ValueError, TypeError, KeyError, binascii.Error) as error:
        raise BadInput("bad_key", f"this JWK can't be read: {type(error).__name__}") from None
    return key


def numeric_date(claims: Mapping[str, Any], name: str) -> float | None:
    """A time in seconds since the epoch (RFC 7519 section 2), None when absent; raises Malformed."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _FAR_FUTURE:
        raise Malformed(f"malformed: {name} is not a time")
    return float(value)


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(urlsafe_b64decode(part.encode("ascii")))
    except (BadInput, binascii.Error, ValueError) as error:
        twice = isinstance(error, BadInput) and "twice" in error.reason
        raise Malformed(f"malformed: the {what} {'give a name twice' if twice else 'are not strict JSON'}") from None
    if not isinstance(value, dict):
        raise Malformed(f"malformed: the {what} are not an object")
    return value
