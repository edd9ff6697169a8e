"""Certificates of programs outside the mesh: whose they are, and which of the operator's authorities says so.

RFC 8705 section 2.1, RFC 5280 section 6. The path from the leaf to an authority goes over what the client brought in
its TLS handshake; `cryptography` builds and checks it (signatures, times, path lengths, names an authority is held
to). What each certificate may be used for, and that nothing critical in it is passed over, is checked here.
Whether one of a path was revoked is asked of its links (`people.oauth.revocations`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from rempart.kernel.errors import BadInput

Authorities = tuple[x509.Certificate, ...]
# A stranger made it: TLS accepts what this library reads only when it is asked, and then complains of.
_ODD = (
    *(ValueError, TypeError, KeyError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension),
    CryptographyDeprecationWarning,  # where warnings are errors
)
_MOST = 64  # authorities
_MAX_PEM = 16 * 1024
_LONGEST = 4  # certificates that a client brings, its own among them
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_KNOWN = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a path. `digest` is SHA-256 of its DER; `issuer` names the authority above it by `key_id`, and
    `serial` the certificate there. The topmost has no issuer: nobody else can revoke it."""

    digest: bytes
    issuer: bytes = b""
    serial: int = 0


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`digest` is SHA-256 of the DER. That its key was proved is TLS's word."""

    digest: bytes
    _leaf: x509.Certificate = field(repr=False)
    _above: tuple[x509.Certificate, ...] = field(default=(), repr=False)

    def path(self, authorities: Authorities, now: float) -> tuple[Link, ...]:
        """From the certificate to the authority that vouches for it now; empty when none does."""
        try:
            chain = _verified(self._leaf, self._above, authorities, now)
            fit = len(chain) > 1 and _for_clients(chain[0]) and all(_issues_clients(one) for one in chain[1:])
            return tuple(_links(chain)) if fit else ()
        except (*_ODD, VerificationError):
            return ()

    def names(self) -> frozenset[str]:
        """`dn:RFC 4514 text`, `dns:…`, `uri:…`, `email:…`, `ip:…`: worth nothing without a path."""
        try:
            subject = self._leaf.subject.rfc4514_string()
            return frozenset({f"dn:{subject}"} if subject else set()) | _alternative(self._leaf)
        except _ODD:
            return frozenset()


def read_certificate(pem: str) -> ClientCertificate | None:
    """The first of them with what came along; None for what is no certificate."""
    try:
        leaf, *above = x509.load_pem_x509_certificates(pem.encode("ascii")) if len(pem) <= _MAX_PEM else []
        digest = hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
        return ClientCertificate(digest, leaf, tuple(above)) if len(above) < _LONGEST else None
    except _ODD:
        return None


def load_authorities(pem: str) -> Authorities:
    """Raises BadInput `bad_authorities`."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem.encode("ascii")))
    except _ODD:
        raise BadInput("bad_authorities", "these are no PEM certificates") from None
    if not 1 <= len(found) <= _MOST:
        raise BadInput("bad_authorities", f"there are {len(found)} certificates, not 1 to {_MOST}")
    for authority in found:
        try:
            is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, *_ODD):
            is_authority = False
        if not is_authority:
            raise BadInput("bad_authorities", f"{authority.subject.rfc4514_string()[:80]!r} is no authority")
    return found


def check_for_clients(pem: str) -> None:
    """That the verifier can follow these authorities' signatures: it takes RSA from 2048 bits on and P-256 to P-521.

    Raises BadInput `bad_authorities`.
    """
    for authority in load_authorities(pem):
        try:
            key = authority.public_key()
        except _ODD:
            key = None
        rsa = isinstance(key, RSAPublicKey) and key.key_size >= 2048
        if not rsa and not (isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES):
            name = authority.subject.rfc4514_string()[:80]
            raise BadInput("bad_authorities", f"{name!r} signs with a key that is not followed: RSA, P-256 to P-521")


def vouched_authorities(pem: str, authorities: Authorities, now: float) -> Authorities:
    """Those, and the intermediates in `pem` for which one of them vouches now. Raises BadInput `bad_authorities`."""
    between = load_authorities(pem)
    for one in between:
        try:
            chain = _verified(one, between, authorities, now)
            if not all(_issues_clients(link) for link in chain):
                raise ValueError
        except (*_ODD, VerificationError):
            name = one.subject.rfc4514_string()[:80]
            raise BadInput("bad_authorities", f"no authority of mtls_client_ca vouches for {name!r}") from None
    return (*authorities, *between)


def key_id(authority: x509.Certificate) -> bytes:
    """Who signs: the name and the key of an authority, whichever certificate it has for them."""
    key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(authority.subject.public_bytes() + key).digest()


def fingerprint(pem: str) -> bytes:
    """SHA-256 of the DER of one certificate. Raises BadInput `bad_certificate`."""
    read = read_certificate(pem) if pem.isascii() else None
    if read is None:
        raise BadInput("bad_certificate", "this is no PEM certificate")
    return read.digest


def _verified(
    leaf: x509.Certificate, above: Sequence[x509.Certificate], authorities: Authorities, now: float
) -> list[x509.Certificate]:
    """From the leaf to an authority. Raises VerificationError and what `_ODD` lists."""
    if not authorities:
        raise VerificationError("nobody is believed")
    issuers = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    builder = PolicyBuilder().store(Store(list(authorities))).time(datetime.fromtimestamp(now, UTC))
    builder = builder.max_chain_depth(_LONGEST)
    builder = builder.extension_policies(ca_policy=issuers, ee_policy=ExtensionPolicy.permit_all())
    return builder.build_client_verifier().verify(leaf, list(above)).chain


def _is_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("no authority")


def _for_clients(leaf: x509.Certificate) -> bool:
    """Raises what `_ODD` lists."""
    uses = _find(leaf.extensions, x509.ExtendedKeyUsage)
    if isinstance(uses, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in uses:
        return False
    return not _value(leaf.extensions, x509.BasicConstraints, "ca") and _all_known(leaf, *_KNOWN)


def _issues_clients(authority: x509.Certificate) -> bool:
    """Raises what `_ODD` lists. Purposes of an authority are those of all below it."""
    extensions = authority.extensions
    uses = _find(extensions, x509.ExtendedKeyUsage)
    for_clients = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if isinstance(uses, x509.ExtendedKeyUsage) and not any(one in uses for one in for_clients):
        return False
    if (
        not _value(extensions, x509.BasicConstraints, "ca")
        or _value(extensions, x509.KeyUsage, "key_cert_sign") is False
    ):
        return False
    return _all_known(authority, *_KNOWN, x509.NameConstraints)


def _all_known(certificate: x509.Certificate, *known: type[x509.ExtensionType]) -> bool:
    return all(not one.critical or isinstance(one.value, known) for one in certificate.extensions)


def _links(chain: Sequence[x509.Certificate]) -> list[Link]:
    digests = [hashlib.sha256(one.public_bytes(Encoding.DER)).digest() for one in chain]
    above = zip(chain[:-1], chain[1:], digests[:-1], strict=True)
    links = [Link(digest, key_id(issuer), one.serial_number) for one, issuer, digest in above]
    return [*links, Link(digests[-1])]


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
