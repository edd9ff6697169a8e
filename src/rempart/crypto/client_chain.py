"""Certificates of programs outside the mesh: whose they are, and whether one of the operator's authorities says so.

RFC 8705 section 2.1. An authority issues directly: what TLS brought besides the leaf is not looked at, so an
intermediate that issues must itself be among the authorities.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from rempart.kernel.errors import BadInput

Authorities = tuple[x509.Certificate, ...]
# A stranger made it: TLS accepts what this library reads only when it is asked, and then complains of.
_ODD = (ValueError, TypeError, KeyError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)
_MOST = 64  # authorities
_MAX_PEM = 16 * 1024


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`digest` is SHA-256 of the DER. That its key was proved is TLS's word."""

    digest: bytes
    _leaf: x509.Certificate = field(repr=False)

    def names(self, authorities: Authorities, now: float) -> frozenset[str]:
        """`dn:RFC 4514 text`, `dns:…`, `uri:…`, `email:…`, `ip:…`; none when no authority vouches for it now."""
        try:
            if not any(_issued(self._leaf, authority, now) for authority in authorities):
                return frozenset()
            subject = self._leaf.subject.rfc4514_string()
            return frozenset({f"dn:{subject}"} if subject else set()) | _alternative(self._leaf)
        except _ODD:
            return frozenset()


def read_certificate(pem: str) -> ClientCertificate | None:
    """None for what is no certificate."""
    try:
        leaf = x509.load_pem_x509_certificate(pem.encode("ascii")) if len(pem) <= _MAX_PEM else None
        return ClientCertificate(hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest(), leaf) if leaf else None
    except _ODD:
        return None


def load_authorities(pem: str) -> Authorities:
    """Raises BadInput `bad_authorities`."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem.encode("ascii")))
    except ValueError:
        raise BadInput("bad_authorities", "these are no PEM certificates") from None
    if not 1 <= len(found) <= _MOST:
        raise BadInput("bad_authorities", f"there are {len(found)} certificates, not 1 to {_MOST}")
    for authority in found:
        try:
            is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            is_authority = False
        if not is_authority:
            raise BadInput("bad_authorities", f"{authority.subject.rfc4514_string()[:80]!r} is no authority")
    return found


def _issued(leaf: x509.Certificate, authority: x509.Certificate, now: float) -> bool:
    """RFC 5280 section 6, for a path of one: signature, times, what both are for; no other critical extension. Raises
    what `_ODD` lists."""
    at = datetime.fromtimestamp(now, UTC)
    if not all(one.not_valid_before_utc <= at <= one.not_valid_after_utc for one in (leaf, authority)):
        return False
    try:
        leaf.verify_directly_issued_by(authority)
    except (*_ODD, InvalidSignature):
        return False
    extensions, above = leaf.extensions, authority.extensions
    if _value(extensions, x509.BasicConstraints, "ca") or _value(above, x509.KeyUsage, "key_cert_sign") is False:
        return False
    uses = _find(extensions, x509.ExtendedKeyUsage)
    if isinstance(uses, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in uses:
        return False
    known = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
    constrained = _find(above, x509.NameConstraints) is not None  # not followed, so not relied on
    return not constrained and all(not one.critical or isinstance(one.value, known) for one in extensions)


def _find(extensions: x509.Extensions, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _value(extensions: x509.Extensions, kind: type[x509.ExtensionType], name: str) -> object:
    return getattr(_find(extensions, kind), name, None)


def _alternative(leaf: x509.Certificate) -> frozenset[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    kinds = (
        ("dns", x509.DNSName),
        ("uri", x509.UniformResourceIdentifier),
        ("email", x509.RFC822Name),
        ("ip", x509.IPAddress),
    )
    return frozenset(f"{word}:{value}" for word, kind in kinds for value in found.get_values_for_type(kind))
