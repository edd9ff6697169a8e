"""SPIRE's trust bundle as ours, and ours as SPIRE takes it."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.crypto.public_jwk import spki_jwk
from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import BadInput
from rempart.protocols.spire import server_pb2 as wire
from rempart.workloads.model import Bundle

_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def spire_bundle(bundle: wire.Bundle, trust_domain: str) -> Bundle:
    """Without what SPIRE calls tainted. Raises BadInput `foreign_spire`, `bad_certificate`."""
    name = bundle.trust_domain.removeprefix("spiffe://")
    if name != trust_domain:
        raise BadInput(
            "foreign_spire",
            f"SPIRE is of the trust domain {name[:80]!r}, and rempart.toml says {trust_domain}",
            "use the same name, or federate the two: [[workloads.federation]]",
        )
    roots = tuple(Certificate.parse(one.asn1) for one in bundle.x509_authorities if not one.tainted)
    keys = []
    for one in bundle.jwt_authorities:
        if not one.tainted:
            jwk = spki_jwk(one.public_key)
            keys.append({**jwk, "kid": one.key_id, "alg": _ALGORITHMS.get(jwk.get("crv", ""), "RS256")})
    return Bundle(trust_domain, roots, tuple(keys), bundle.sequence_number)


def to_append(roots: Sequence[bytes], keys: Sequence[tuple[str, bytes, float]]) -> wire.AppendBundleRequest:
    """`roots` in DER; of each key its id, the public key (SubjectPublicKeyInfo) and when it ends."""
    return wire.AppendBundleRequest(
        x509_authorities=[wire.X509Authority(asn1=der) for der in roots],
        jwt_authorities=[
            wire.JwtAuthority(key_id=kid, public_key=der, expires_at=int(until)) for kid, der, until in keys
        ],
    )
