"""Public keys of certificates as JSON Web Keys (RFC 7517), for SPIFFE bundles."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rempart.kernel.errors import BadInput

from .x509 import load

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def public_jwk(der: bytes) -> dict[str, str]:
    """The key of a certificate as a JWK without `kid` (RFC 7518 sections 6.2 and 6.3).

    Raises BadInput `bad_certificate` for other than RSA and the curves P-256, P-384 and P-521.
    """
    return _jwk(load(der).public_key())


def spki_jwk(der: bytes) -> dict[str, str]:
    """The same of a bare public key (SubjectPublicKeyInfo, RFC 5280 section 4.1)."""
    try:
        return _jwk(load_der_public_key(der))
    except (ValueError, UnsupportedAlgorithm):
        raise BadInput("bad_certificate", "this is not a public key") from None


def _jwk(public: object) -> dict[str, str]:
    def text(number: int, size: int = 0) -> str:
        octets = number.to_bytes(size or (number.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()

    if isinstance(public, rsa.RSAPublicKey):
        rsa_numbers = public.public_numbers()
        return {"kty": "RSA", "n": text(rsa_numbers.n), "e": text(rsa_numbers.e)}
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise BadInput("bad_certificate", "the key of this certificate is of a kind that is not used here")
    numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
    return {"kty": "EC", "crv": _CURVES[public.curve.name], "x": text(numbers.x, size), "y": text(numbers.y, size)}


def jwk_spki(jwk: Mapping[str, str]) -> bytes:
    """The bare public key of a JWK on one of these curves. Raises BadInput `bad_certificate`."""

    def number(name: str) -> int:
        return int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big")

    curves: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    try:
        key = ec.EllipticCurvePublicNumbers(number("x"), number("y"), curves[jwk["crv"]]).public_key()
    except (KeyError, ValueError):
        raise BadInput("bad_certificate", "this is not the public key of a curve") from None
    return key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
