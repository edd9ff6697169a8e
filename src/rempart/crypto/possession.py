"""Proof that somebody has the private key of a certificate: a signature over a message that the verifier had a part in.

ECDSA with SHA-256 on P-256, SHA-384 on P-384 and SHA-512 on P-521; RSA from 2048 bits with PSS and SHA-256; Ed25519.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rempart.kernel.errors import BadInput, RempartError, Unauthenticated

from .svid import verify_chain
from .x509 import UNREADABLE, Certificate, load

_LEAST_RSA_BITS = 2048
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


@dataclass(frozen=True, slots=True)
class Possessor:
    """Who proved possession. Fingerprints are SHA-256 in hexadecimal; `root` is that of the CA at the top."""

    fingerprint: str
    common_name: str
    root: str
    not_after: float


def prove(private_key_pem: bytes, message: bytes) -> bytes:
    """The signature; raises BadInput `bad_private_key`."""
    try:
        key = ser.load_pem_private_key(private_key_pem, None)
    except (ValueError, TypeError):
        raise BadInput("bad_private_key", "the private key is not unencrypted PEM") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _HASHES:
        return key.sign(message, ec.ECDSA(_HASHES[key.curve.name]()))
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return key.sign(message, _PSS, hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    raise BadInput("bad_private_key", "the private key is of a kind that is not used here", "use P-256, RSA or Ed25519")


def verify_possession(
    chain: Sequence[bytes], roots: Sequence[bytes], message: bytes, signature: bytes, *, now: float
) -> Possessor:
    """That `signature` was made by the key of `chain` (leaf first, DER), which comes from one of `roots` and is not
    kept from it by its extensions. Raises Unauthenticated `possession_refused`."""
    try:
        root = verify_chain(chain, roots, now=now)
        leaf = load(chain[0])
        _check_usage(leaf)
        _check_signature(leaf, message, signature)
        names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except InvalidSignature:
        raise _refuse("the signature is not by its key") from None
    except UNREADABLE:
        raise _refuse("the certificate can't be read") from None
    except RempartError as error:
        raise _refuse(error.reason) from None
    name = str(names[0].value) if names else ""
    known = Certificate.parse(chain[0])
    return Possessor(known.fingerprint, name, Certificate.parse(root).fingerprint, known.not_after)


def _check_usage(leaf: x509.Certificate) -> None:
    """RFC 5280 sections 4.2.1.3, 4.2.1.9 and 4.2.1.12: an absent extension restricts nothing."""
    for kind, allows in (
        (x509.KeyUsage, lambda usage: usage.digital_signature),
        (x509.ExtendedKeyUsage, lambda purposes: ExtendedKeyUsageOID.CLIENT_AUTH in purposes),
        (x509.BasicConstraints, lambda constraints: not constraints.ca),
    ):
        try:
            value = leaf.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            continue
        if not allows(value):
            raise _refuse(f"its {kind.__name__} does not let it prove who it is")


def _check_signature(leaf: x509.Certificate, message: bytes, signature: bytes) -> None:
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]()))
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        key.verify(signature, message, _PSS, hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, message)
    else:
        raise _refuse("its key is of a kind that is not used here")


def _refuse(why: str) -> Unauthenticated:
    return Unauthenticated("possession_refused", f"the proof of possession is refused: {why}")
