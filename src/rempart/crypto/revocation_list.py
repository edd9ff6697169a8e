"""Certificate revocation lists (RFC 5280 section 5): whole ones, of an authority's own certificates.

How a list is read, numbered here and tagged where it is done:
 1. it is signed by an authority that is known, and that may sign lists, with SHA-256 or better;
 2. it is a whole one: no delta, no part for some certificates only, nothing critical that isn't known;
 3. it says when the next one comes, and that is still ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from rempart.kernel.errors import BadInput

from .client_chain import Authorities, key_id

MOST = 4 << 20  # bytes of one list
_WEAK = frozenset({"md5", "sha1"})
_ODD = (ValueError, TypeError, KeyError, UnsupportedAlgorithm, x509.DuplicateExtension)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """`issuer` is `client_chain.key_id` of who signed it; `number` grows with each list; times in seconds."""

    issuer: bytes
    issuer_name: str
    number: int
    made_at: float
    next_at: float
    count: int
    der: bytes = field(repr=False)
    _list: x509.CertificateRevocationList = field(repr=False)

    def revoked(self, serial: int) -> bool:
        return self._list.get_revoked_certificate_by_serial_number(serial) is not None


def read_list(data: bytes, authorities: Authorities, now: float) -> RevocationList:
    """PEM or DER. Raises BadInput `bad_revocation_list`."""
    found = _load(data)
    try:
        signer = next((one for one in authorities if _signed(found, one)), None)  # step 1
        if signer is None:
            raise _bad("no authority that is known signed it")
        _check_whole(found)  # step 2
        made, following = found.last_update_utc, found.next_update_utc
        if following is None:
            raise _bad("it doesn't say when the next one comes")
        if not made.timestamp() <= now + 300 or following.timestamp() <= now:  # step 3
            raise _bad(f"it is for {made:%Y-%m-%d %H:%M} to {following:%Y-%m-%d %H:%M} UTC, not for now")
        return _kept(found, key_id(signer), signer.subject.rfc4514_string()[:200])
    except _ODD:
        raise _bad("it can't be read") from None


def kept_list(der: bytes, issuer: bytes) -> RevocationList:
    """One that `read_list` has checked before."""
    found = x509.load_der_x509_crl(der)
    return _kept(found, issuer, found.issuer.rfc4514_string()[:200])


def _kept(found: x509.CertificateRevocationList, issuer: bytes, name: str) -> RevocationList:
    following = found.next_update_utc
    return RevocationList(
        issuer=issuer,
        issuer_name=name,
        number=_number(found.extensions),
        made_at=found.last_update_utc.timestamp(),
        next_at=following.timestamp() if following else 0.0,
        count=len(found),
        der=found.public_bytes(Encoding.DER),
        _list=found,
    )


def _load(data: bytes) -> x509.CertificateRevocationList:
    if len(data) > MOST:
        raise _bad(f"it is larger than {MOST} bytes")
    try:
        if b"-----BEGIN" in data[:4096]:
            return x509.load_pem_x509_crl(data)
        return x509.load_der_x509_crl(data)
    except _ODD:
        raise _bad("it is neither PEM nor DER") from None


def _signed(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    digest = found.signature_hash_algorithm
    if authority.subject != found.issuer or (digest is not None and digest.name in _WEAK):
        return False
    try:
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass  # it may do whatever its key can (RFC 5280 section 4.2.1.3)
    key = authority.public_key()
    try:
        return isinstance(key, RSAPublicKey | EllipticCurvePublicKey) and found.is_signature_valid(key)
    except _ODD:
        return False


def _check_whole(found: x509.CertificateRevocationList) -> None:
    for extension in found.extensions:
        partial = isinstance(extension.value, x509.DeltaCRLIndicator | x509.IssuingDistributionPoint)
        if partial or extension.critical:
            raise _bad("it is no whole list of one authority's certificates: deltas and parts are not followed")


def _number(extensions: x509.Extensions) -> int:
    try:
        return extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _bad(why: str) -> BadInput:
    return BadInput(
        "bad_revocation_list",
        f"the revocation list is refused: {why}",
        "give a current list of an authority in mtls_client_ca, or of one below it with --issuer",
    )
