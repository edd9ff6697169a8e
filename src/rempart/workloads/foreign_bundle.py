"""Another trust domain's bundle, read strictly (SPIFFE_Trust_Domain_and_Bundle.md sections 4 and 5).

A bundle doesn't say whose it is; who fetched it does. Whoever hands us our own roots, or one that says that it is of
our domain, is lying or mistaken, and gets nothing: it could speak for us.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rempart.crypto.ca_key import check_authority
from rempart.crypto.jose import Jwks
from rempart.crypto.x509 import Certificate
from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, RempartError

MAX_BYTES = 1 << 20
MAX_KEYS = 64
REFRESH = (10.0, 86400.0)
"""Seconds: how often a partner may have us ask, and how rarely."""
DEFAULT_REFRESH = 300.0
_JWT_KINDS = ("RSA", "EC")
"""RFC 7518 sections 3.3 to 3.5, the only algorithms of JWT-SVIDs (JWT-SVID section 2.1)."""


@dataclass(frozen=True, slots=True)
class ForeignBundle:
    """`text` is as it came. `sequence` None: it names none. `refresh` in seconds."""

    trust_domain: str
    roots: tuple[Certificate, ...]
    jwt_keys: tuple[Mapping[str, Any], ...]
    sequence: int | None
    refresh: float
    text: str

    @property
    def contents(self) -> tuple[Any, ...]:
        return [root.fingerprint for root in self.roots], [dict(key) for key in self.jwt_keys]


def parse_bundle(text: bytes | str, trust_domain: str, *, ours: Collection[str]) -> ForeignBundle:
    """`ours`: fingerprints of our own roots. Raises BadInput `bad_bundle`."""
    if len(text) > MAX_BYTES:
        raise _bad(trust_domain, f"it is larger than {MAX_BYTES} bytes")
    try:
        document = strict_json.loads(text)
    except BadInput as error:
        raise _bad(trust_domain, error.reason) from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS or not all(isinstance(key, dict) for key in listed):
        raise _bad(trust_domain, f"it has no `keys`, or more than {MAX_KEYS}")
    sequence, hint = document.get("spiffe_sequence"), document.get("spiffe_refresh_hint")
    for number in (sequence, hint):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise _bad(trust_domain, "its sequence or refresh hint is no whole number")
    # An entry without a certificate counts for nothing, and of several only the first (X509-SVID section 6.2).
    roots = tuple(_root(key, trust_domain, ours) for key in listed if key.get("use") == "x509-svid" and key.get("x5c"))
    for_tokens = [key for key in listed if key.get("use") == "jwt-svid" and key.get("kty") in _JWT_KINDS]
    return ForeignBundle(
        trust_domain,
        tuple({root.fingerprint: root for root in roots}.values()),
        tuple(_jwt_key(key, trust_domain) for key in for_tokens),
        sequence,
        min(max(float(hint), REFRESH[0]), REFRESH[1]) if hint else DEFAULT_REFRESH,
        text if isinstance(text, str) else text.decode(),
    )


def _root(key: Mapping[str, Any], trust_domain: str, ours: Collection[str]) -> Certificate:
    chain = key.get("x5c")
    if not isinstance(chain, list) or not isinstance(chain[0], str):
        raise _bad(trust_domain, "the certificate of an X.509 key is no text")
    try:
        root = Certificate.parse(base64.b64decode(chain[0], validate=True))
        check_authority(root.der, trust_domain)
    except (binascii.Error, ValueError):
        raise _bad(trust_domain, "a certificate is not base64") from None
    except RempartError as error:
        raise _bad(trust_domain, error.reason) from None
    if root.fingerprint in ours:
        raise _bad(trust_domain, "it holds a root of ours")
    return root


def _jwt_key(key: Mapping[str, Any], trust_domain: str) -> Mapping[str, Any]:
    known = {name: value for name, value in key.items() if name != "use"}
    try:
        Jwks.parse({"keys": [known]})
    except RempartError as error:
        raise _bad(trust_domain, error.reason) from None
    return known


def _bad(trust_domain: str, why: str) -> BadInput:
    return BadInput("bad_bundle", f"the bundle of {trust_domain} is refused: {why}", "ask who runs that trust domain")
