"""JSON Web Tokens, signed and strictly verified (RFC 7515, 7519, 8725; access tokens as in RFC 9068).

How a token is verified, numbered here and tagged where it is done:
 1. its size is bounded and it has three parts;
 2. header and claims are strict JSON objects, no name twice;
 3. the header holds `alg`, `typ`, `kid` and nothing else: no `crit`, `jku`, `jwk`, `x5u`, `x5c`, `b64`;
 4. `typ` is the expected one, so that one kind of token can't pass for another;
 5. `alg` is on the list, and is the algorithm of the one key that `kid` names;
 6. the signature is right;
 7. `iss` and `aud` are exactly ours;
 8. `exp` is there and ahead; `nbf` and `iat`, where given, are not ahead.
Steps 1 to 3, and what a key is, are in `crypto.jws`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.util import urlsafe_b64encode

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, RempartError, Unauthenticated

from .jws import Compact, Malformed, PublicKey, import_key, numeric_date, parse_compact

ALGORITHMS = ("RS256", "ES256", "EdDSA")
ACCESS_TOKEN = "at+jwt"  # nosec B105 - a media type (RFC 9068 section 2.1)
MAX_LEEWAY = 60
DEFAULT_LEEWAY = 5
_MAX_KEYS = 64
_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says. Times in seconds since the epoch; `raw` has every claim as it was signed."""

    subject: str
    role: str
    scope: tuple[str, ...]
    issued_at: float
    expires_at: float
    auth_time: float
    amr: tuple[str, ...]
    token_id: str
    payment_limit: int | None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the algorithm it is for; `kid` is its RFC 7638 thumbprint."""

    kid: str
    algorithm: str
    _key: Key

    @staticmethod
    def generate(algorithm: str) -> SigningKey:
        """Raises BadInput `bad_algorithm`. RSA takes about 0.1 s of processor time."""
        key: Key
        if algorithm == "RS256":
            key = RSAKey.generate_key(2048, auto_kid=True)
        elif algorithm == "ES256":
            key = ECKey.generate_key("P-256", auto_kid=True)
        elif algorithm == "EdDSA":
            key = OKPKey.generate_key("Ed25519", auto_kid=True)
        else:
            raise BadInput("bad_algorithm", f"{algorithm!r} is not supported", "use " + ", ".join(ALGORITHMS))
        return SigningKey(str(key.kid), algorithm, key)

    @staticmethod
    def load(private_jwk: Mapping[str, Any]) -> SigningKey:
        """The inverse of `dump`; raises BadInput `bad_key`."""
        algorithm, key = _import(private_jwk)
        if not key.is_private:
            raise BadInput("bad_key", "this key has no private part")
        return SigningKey(str(private_jwk["kid"]), algorithm, key)

    def dump(self) -> dict[str, Any]:
        """The private JWK, a secret: seal it before it is stored."""
        return {**self._key.as_dict(private=True), "kid": self.kid, "alg": self.algorithm}

    def public_jwk(self) -> dict[str, Any]:
        """RFC 7517, with `use: sig` and `alg`."""
        return {**self._key.as_dict(private=False), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, claims: Mapping[str, Any], *, typ: str = ACCESS_TOKEN) -> str:
        """A compact JWS of the claims as they are; who calls puts `iss`, `aud` and `exp` in."""
        payload = msgspec.json.encode(claims)
        text = _head(self.algorithm, typ, self.kid) + urlsafe_b64encode(payload)
        return (text + b"." + urlsafe_b64encode(self.signature(text))).decode()

    def signature(self, data: bytes) -> bytes:
        """The bare signature over `data` (RFC 7518 section 3)."""
        if isinstance(self._key, ECKey) and isinstance(key := self._key.raw_value, ec.EllipticCurvePrivateKey):
            return _es256(key, data)  # without joserfc's checks of the key, which takes a quarter less
        return bytes(jws.JWSRegistry.algorithms[self.algorithm].sign(data, self._key))


def _es256(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """R and S, of 32 bytes each (RFC 7518 section 3.4)."""
    r, s = utils.decode_dss_signature(key.sign(data, _ECDSA_SHA256))
    return (r << 256 | s).to_bytes(64, "big")


@lru_cache(maxsize=64)
def _head(algorithm: str, typ: str, kid: str) -> bytes:
    header = {"alg": algorithm, "typ": typ, "kid": kid}
    return urlsafe_b64encode(json.dumps(header, separators=(",", ":")).encode()) + b"."


class Jwks:
    """Public keys by `kid` (RFC 7517). Immutable."""

    def __init__(self, keys: Mapping[str, tuple[str, Key]]) -> None:
        self._keys = dict(keys)
        self._verifying = {kid: PublicKey(frozenset({algorithm}), key) for kid, (algorithm, key) in keys.items()}

    @staticmethod
    def parse(document: bytes | str | Mapping[str, Any]) -> Jwks:
        """Keys of kinds that we don't use are passed over (section 5); what claims to be of ours must be right.

        Raises BadInput `bad_jwks`: not a key set, a `kid` twice or absent, a private or symmetric key, weak RSA.
        """
        value = strict_json.loads(document) if isinstance(document, bytes | str) else document
        members = value.get("keys") if isinstance(value, Mapping) else None
        if not isinstance(members, list) or len(members) > _MAX_KEYS:
            raise BadInput("bad_jwks", f"a key set has `keys`, an array of at most {_MAX_KEYS}")
        keys: dict[str, tuple[str, Key]] = {}
        for jwk in members:
            if not isinstance(jwk, Mapping):
                raise BadInput("bad_jwks", "a key is a JSON object")
            if "d" in jwk or "k" in jwk or jwk.get("kty") == "oct":
                raise BadInput("bad_jwks", "a published key set must not hold private or symmetric keys")
            if jwk.get("use", "sig") != "sig" or _algorithm_of(jwk) is None:
                continue
            kid = jwk.get("kid")
            if not isinstance(kid, str) or not kid or kid in keys:
                raise BadInput("bad_jwks", "every key needs a `kid` of its own")
            try:
                keys[kid] = _import(jwk)
            except BadInput as error:
                raise BadInput("bad_jwks", error.reason) from None
        return Jwks(keys)

    @staticmethod
    def of(*keys: SigningKey) -> Jwks:
        return Jwks.parse({"keys": [key.public_jwk() for key in keys]})

    def find(self, kid: str) -> tuple[str, Key] | None:
        """The algorithm and the key."""
        return self._keys.get(kid)

    def verifies(self, kid: str, token: Compact) -> bool:
        return self._verifying[kid].verifies(token)

    def kids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def export(self) -> dict[str, Any]:
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "alg": algorithm, "use": "sig"}
                for kid, (algorithm, key) in self._keys.items()
            ]
        }


def verify_jwt(
    token: str,
    jwks: Jwks,
    *,
    typ: str | None,
    issuer: str | None,
    audience: str | None,
    now: float,
    leeway: float = DEFAULT_LEEWAY,
) -> dict[str, Any]:
    """The claims of a token that passes all eight steps; else Unauthenticated `invalid_token` with the reason.

    `typ` None: the header must have none, as Kubernetes writes it.
    `audience` None leaves `aud` to the caller, who must look at it; so does `issuer` None with `iss`, where all keys
    are one issuer's.
    `leeway`, in seconds and at most 60, is the clock difference allowed on `exp`, `nbf` and `iat`.
    Cost: at most one signature check over `MAX_TOKEN` characters.
    """
    if not 0 <= leeway <= MAX_LEEWAY:
        raise BadInput("bad_leeway", f"a leeway of {leeway} s is outside 0 to {MAX_LEEWAY}")
    parsed = read_compact(token)  # steps 1 to 3
    header = parsed.header
    if header.get("typ") != typ:
        raise _refuse(f"wrong type: typ is not {typ}")  # step 4
    kid = header.get("kid")
    known = jwks.find(kid) if isinstance(kid, str) else None
    if known is None or not isinstance(kid, str):
        raise _refuse("unknown key")  # step 5
    if known[0] != header["alg"]:
        raise _refuse("algorithm not allowed: the key is for another")  # step 5
    if not jwks.verifies(kid, parsed):
        raise _refuse("bad signature")  # step 6
    try:
        claims = parsed.claims()  # step 2
    except Malformed as error:
        raise _refuse(str(error)) from None
    if issuer is not None and claims.get("iss") != issuer:
        raise _refuse("wrong issuer")  # step 7
    given = claims.get("aud")
    if audience is not None and audience not in (given if isinstance(given, list) else [given]):
        raise _refuse("wrong audience")  # step 7
    if _time(claims, "exp", required=True) + leeway <= now:
        raise _refuse("expired")  # step 8
    for name in ("nbf", "iat"):
        if _time(claims, name) - leeway > now:
            raise _refuse(f"not yet valid: {name} is ahead")  # step 8
    return claims


def verify_access_token(
    token: str, jwks: Jwks, issuer: str, audience: str | None, now: float, leeway: float = DEFAULT_LEEWAY
) -> Claims:
    """Verify and read an access token of Rempart; raises Unauthenticated `invalid_token`, its `reason` says why."""
    claims = verify_jwt(token, jwks, typ=ACCESS_TOKEN, issuer=issuer, audience=audience, now=now, leeway=leeway)
    subject, role, scope = claims.get("sub"), claims.get("role", ""), claims.get("scope", "")
    amr, limit, token_id = claims.get("amr", []), claims.get("payment_limit"), claims.get("jti", "")
    if not isinstance(subject, str) or not subject:
        raise _refuse("malformed: no sub")
    if not isinstance(role, str) or not isinstance(scope, str) or not isinstance(token_id, str):
        raise _refuse("malformed: role, scope or jti is not a string")
    if not isinstance(amr, list) or not all(isinstance(method, str) for method in amr):
        raise _refuse("malformed: amr is not an array of strings")
    if limit is not None and (type(limit) is not int or limit < 0):
        raise _refuse("malformed: payment_limit is not an amount")
    return Claims(
        subject=subject,
        role=role,
        scope=tuple(scope.split()),
        issued_at=_time(claims, "iat"),
        expires_at=_time(claims, "exp", required=True),
        auth_time=_time(claims, "auth_time"),
        amr=tuple(amr),
        token_id=token_id,
        payment_limit=limit,
        raw=MappingProxyType(claims),
    )


def explain_token_failure(
    token: str, jwks: Jwks, issuer: str, audience: str, now: float, leeway: float = DEFAULT_LEEWAY
) -> str:
    """Why `verify_access_token` refuses this token, in a few words for the record; "" when it doesn't. Never raises."""
    try:
        verify_access_token(token, jwks, issuer, audience, now, leeway)
    except RempartError as error:
        return error.reason.removeprefix("the access token is not valid: ")
    except Exception as error:
        return f"malformed: {type(error).__name__}"
    return ""


def _refuse(why: str) -> Unauthenticated:
    return Unauthenticated("invalid_token", f"the access token is not valid: {why}", "log in again")


def read_compact(token: str) -> Compact:
    """A token of ours, its signature unchecked; Unauthenticated `invalid_token`."""
    try:
        return parse_compact(token, _HEADER_MEMBERS, ALGORITHMS)
    except Malformed as error:
        raise _refuse(str(error)) from None


def _time(claims: Mapping[str, Any], name: str, *, required: bool = False) -> float:
    """0 when absent and not required."""
    try:
        value = numeric_date(claims, name)
    except Malformed as error:
        raise _refuse(str(error)) from None
    if value is None and required:
        raise _refuse(f"no {name}")
    return value or 0.0


def _algorithm_of(jwk: Mapping[str, Any]) -> str | None:
    kind = f"{jwk.get('kty')} {jwk.get('crv', '')}".rstrip()
    algorithm = {"RSA": "RS256", "EC P-256": "ES256", "OKP Ed25519": "EdDSA"}.get(kind)
    return algorithm if jwk.get("alg", algorithm) == algorithm else None


def _import(jwk: Mapping[str, Any]) -> tuple[str, Key]:
    algorithm = _algorithm_of(jwk)
    if algorithm is None or not isinstance(jwk.get("kid"), str):
        raise BadInput("bad_key", "this JWK is of a kind that Rempart doesn't use")
    return algorithm, import_key(jwk)
