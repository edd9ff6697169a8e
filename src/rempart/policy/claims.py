"""The claims that Envoy's jwt_authn verified, read strictly once more and remembered by the text they came in."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

MAX_HEADER = 12_000  # characters of base64url
LEEWAY = 5  # seconds between two clocks; Envoy grants the same
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_ROLE = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
_FAR = 1 << 40
PERSONAL = frozenset({"email", "name", "given_name", "family_name", "phone_number", "address", "birthdate"})


class BadClaims(ValueError):
    """The text says why, for the record."""


@dataclass(frozen=True, slots=True)
class Claims:
    """`as_json` is what policy sees, `masked` what the record keeps (the very same object where nothing is left out).

    Times are in seconds since the epoch of Unix; `epoch` is the account's when the token was made, 0 without one.
    `authenticated` is when the person proved who they are, 0 for a program.
    `session` and `token` are `sid` and `jti`, empty where there is none; `client` is `client:` and `client_id`.
    `bound`: the token is worth something only beside a proof of its key (RFC 7800); `jkt` names that for DPoP,
    `x5t` the certificate (RFC 8705); with both, both are needed.
    """

    subject: str
    role: str
    expires: float
    not_before: float
    issued: float
    epoch: int
    session: str
    token: str
    client: str
    bound: bool
    jkt: str
    x5t: str
    as_json: str
    masked: str
    authenticated: float = 0.0


_LAST = {0: b"", 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
"""By the length of base64url modulo 4: which last characters leave no bit over (RFC 4648 section 3.5); 0: any."""


def written_as_issued(token: bytes) -> bool:
    """Three parts, none empty, and no bits left over in the last one. What is before the token doesn't matter."""
    second = token.rfind(b".")
    first = token.rfind(b".", 0, second)
    if first < 0 or second == first + 1 or token.find(b".") != first:
        return False
    signature = len(token) - second - 1
    last = _LAST.get(signature % 4)
    return signature > 0 and last is not None and (not last or token[-1] in last)


class ClaimsReader:
    """Bounded by `size` texts of at most `MAX_HEADER` characters. One event loop."""

    def __init__(
        self, issuer: str, audience: str, *, size: int = 4096, check_issuer: bool = True, check_audience: bool = True
    ) -> None:
        self._issuer, self._audience = issuer, audience
        self._check_issuer, self._check_audience = check_issuer, check_audience
        self._size = size
        self._known: OrderedDict[bytes, Claims] = OrderedDict()

    def read(self, header: bytes, now: float, authorization: bytes = b"") -> Claims:
        """Raises BadClaims. The clock is asked every time, whatever is remembered.

        `authorization` is the header that Envoy took the claims from: it reads tokens that are written in another way
        than they were issued, and two texts of one token would be two to whoever looks for it."""
        if authorization and not written_as_issued(authorization):
            raise BadClaims("the token is malformed")
        claims = self._known.get(header)
        if claims is None:
            claims = self._parse(header)
            if len(self._known) >= self._size:
                self._known.popitem(last=False)
            self._known[header] = claims
        if now > claims.expires + LEEWAY:
            raise BadClaims("the token has expired")
        if now < claims.not_before - LEEWAY or now < claims.issued - LEEWAY:
            raise BadClaims("the token is not valid yet")
        return claims

    def _parse(self, header: bytes) -> Claims:
        if len(header) > MAX_HEADER:
            raise BadClaims("the claims are too long")
        if not _BASE64URL.fullmatch(header):
            raise BadClaims("the claims are not base64url")
        try:
            raw = base64.urlsafe_b64decode(header.rstrip(b"=") + b"=" * (-len(header.rstrip(b"=")) % 4))
            document = strict_json.loads(raw)
        except (binascii.Error, ValueError):
            raise BadClaims("the claims are not base64url") from None
        except BadInput as error:
            raise BadClaims(error.reason) from None
        if not isinstance(document, dict):
            raise BadClaims("the claims are not an object")
        return self._check(document)

    def _check(self, document: dict[str, Any]) -> Claims:
        subject, role = document.get("sub"), document.get("role", "")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise BadClaims("`sub` is missing or not an identifier")
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise BadClaims("`role` is not an identifier")
        if self._check_issuer and document.get("iss") != self._issuer:
            raise BadClaims("the token is from another issuer")
        audience = document.get("aud")
        if self._check_audience and audience != self._audience and audience != [self._audience]:
            raise BadClaims("the token is for another audience")
        expires = _time(document, "exp", required=True)
        as_json = json.dumps(document, separators=(",", ":"))
        masked = {name: "***" if name in PERSONAL else value for name, value in document.items()}
        return Claims(
            subject,
            role,
            expires,
            _time(document, "nbf"),
            _time(document, "iat"),
            _epoch(document),
            _name(document, "sid"),
            _name(document, "jti"),
            "client:" + _name(document, "client_id"),
            "cnf" in document,
            _confirmed(document, "jkt"),
            _confirmed(document, "x5t#S256"),
            as_json,
            as_json if masked == document else json.dumps(masked, separators=(",", ":")),
            _time(document, "auth_time"),
        )


def _name(document: dict[str, Any], claim: str) -> str:
    value = document.get(claim, "")
    if not isinstance(value, str):
        raise BadClaims(f"`{claim}` is no name")
    return value


def _confirmed(document: dict[str, Any], by: str) -> str:
    confirmation = document.get("cnf")
    found = confirmation.get(by) if isinstance(confirmation, dict) else None
    return found if isinstance(found, str) else ""


def _epoch(document: dict[str, Any]) -> int:
    value = document.get("epoch", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _FAR:
        raise BadClaims("`epoch` is not a count")
    return value


def _time(document: dict[str, Any], name: str, *, required: bool = False) -> float:
    value = document.get(name)
    if value is None and not required and name not in document:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR:
        raise BadClaims(f"`{name}` is missing or not a time")
    return float(value)


def why_refused(token: str, now: float, issuer: str, audience: str) -> str:
    """Why Envoy didn't accept a token, as far as its text tells without a key.

    Says nothing that isn't ours: neither the token nor what it claims.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_HEADER:
        return "malformed: not three parts"
    try:
        header, claims = (
            strict_json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
        )
    except (BadInput, ValueError):
        return "malformed: header or claims are not strict JSON"
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return "malformed: header or claims are not objects"
    if header.get("alg") not in ("RS256", "ES256", "EdDSA"):
        return "algorithm: none of ours" if header.get("alg") != "none" else "algorithm: none"
    if extra := sorted(set(header) & {"jku", "jwk", "x5u", "x5c", "crit", "b64"}):
        return f"header: {', '.join(extra)} is not accepted"
    if not parts[2]:
        return "signature: missing"
    exp = claims.get("exp")
    if isinstance(exp, bool) or not isinstance(exp, int | float):
        return "expiry: missing"
    if exp + LEEWAY < now:
        return "expired"
    if claims.get("iss") != issuer:
        return "issuer: another one"
    if claims.get("aud") not in (audience, [audience]):
        return "audience: another one"
    for name in ("nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, int | float) and value > now + LEEWAY:
            return "not valid yet"
    return "signature: by no key of ours"
