"""CAs that somebody else made: their keys (RSA or elliptic curves), and whether they may stand above ours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rempart.kernel.errors import BadInput

from .x509 import UNREADABLE, load

LEAST_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class CaKey:
    """A private key that signs certificates: RSA of 2048 bits or more, or EC on P-256, P-384 or P-521."""

    _key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)

    @staticmethod
    def from_pem(pem: str | bytes) -> CaKey:
        """Raises BadInput `bad_private_key`."""
        try:
            key = ser.load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, None)
        except (ValueError, TypeError):
            raise BadInput("bad_private_key", "the private key is not unencrypted PEM") from None
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
            return CaKey(key)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(
            key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
        ):
            return CaKey(key)
        raise BadInput("bad_private_key", f"it is neither RSA of {LEAST_RSA_BITS} bits nor on P-256 to P-521")

    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def check_upstream(
    ders: Sequence[bytes], roots: Sequence[bytes], key: CaKey, *, trust_domain: str, now: float
) -> bytes:
    """That `ders` (what signs first, then what signed it) may have an issuing CA of `trust_domain` below it; its root,
    which is one of `roots`, or the last of `ders` where it signed itself.

    Raises BadInput `bad_upstream`.
    """
    loaded = [load(der) for der in ders]
    anchors = [load(der) for der in roots]
    if not loaded:
        raise _bad("there is no certificate")
    if not anchors and _signed(loaded[-1], loaded[-1]):
        anchors = [loaded[-1]]
    spki = loaded[0].public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    if spki != key.public_der():
        raise _bad("the key is not that of the first certificate")
    for subject, issuer in itertools.pairwise(loaded):
        if not _signed(subject, issuer):
            raise _bad("its certificates don't follow from one another, what signs first")
    root = next((one for one in anchors if one == loaded[-1] or _signed(loaded[-1], one)), None)
    if root is None:
        raise _bad("no root in the bundle signed it")
    chain = [*loaded, *([] if root == loaded[-1] else [root])]
    for below, certificate in enumerate(chain, 1):
        _check_ca(certificate, below, trust_domain, now)
    return root.public_bytes(ser.Encoding.DER)


def check_authority(der: bytes, trust_domain: str) -> None:
    """That a root may be in the bundle of `trust_domain`: a CA that, if it says for which trust domain, says this one
    (X509-SVID standard sections 3.1 and 4.1). Its time is not looked at: bundles hold roots that are not valid yet.

    Raises BadInput `bad_certificate`.
    """
    try:
        extensions = load(der).extensions
        ca = any(isinstance(one.value, x509.BasicConstraints) and one.value.ca for one in extensions)
        found = [one.value for one in extensions if isinstance(one.value, x509.SubjectAlternativeName)]
    except UNREADABLE:
        raise BadInput("bad_certificate", "a certificate has extensions that make no sense") from None
    names = [uri for one in found for uri in one.get_values_for_type(x509.UniformResourceIdentifier)]
    if not ca:
        raise BadInput("bad_certificate", "a certificate is not that of a CA")
    if names and names != [f"spiffe://{trust_domain}"]:
        raise BadInput("bad_certificate", f"a certificate is of {', '.join(names)[:200]}")


def _check_ca(certificate: x509.Certificate, below: int, trust_domain: str, now: float) -> None:
    """X509-SVID standard sections 3 and 4: a CA of enough depth, for this trust domain if it says for which."""
    if not certificate.not_valid_before_utc.timestamp() <= now < certificate.not_valid_after_utc.timestamp():
        raise _bad("a certificate is expired or not yet valid")
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except UNREADABLE:
        raise _bad("a certificate lacks basic constraints or a key usage") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise _bad("a certificate is not that of a CA")
    if constraints.path_length is not None and constraints.path_length < below:
        raise _bad(f"a path length is {constraints.path_length} and must be at least {below}")
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris and uris != [f"spiffe://{trust_domain}"]:
        raise _bad(f"a certificate is of {', '.join(uris)}, not of spiffe://{trust_domain}")


def _signed(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True


def _bad(why: str) -> BadInput:
    return BadInput(
        "bad_upstream", f"the upstream authority can't be used: {why}", "see [workloads.upstream] in rempart.toml"
    )
