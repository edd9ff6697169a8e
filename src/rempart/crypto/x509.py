"""X.509: roots, issuing CAs, SVIDs and web server certificates, all ECDSA P-256. `svid` verifies them.

Profile: RFC 5280, and the X509-SVID standard (section 2 SPIFFE ID in one URI SAN, section 3 hierarchy, section 4
constraints and key usage). Times are in seconds since the epoch. Certificates travel as DER
inside the system and as PEM at its edges; private keys as PKCS#8 DER.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId

if TYPE_CHECKING:
    from .ca_key import CaKey

BACKDATED = 30.0
"""Seconds that not-before lies in the past, for peers whose clock is a little behind."""

_NO_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
UNREADABLE = (  # what the library raises for malformed certificates; not all of it is a ValueError
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.ExtensionNotFound,
)
_SIGNS_CERTIFICATES = x509.KeyUsage(**(_NO_USAGE | {"key_cert_sign": True}))
_SIGNS_HANDSHAKES = x509.KeyUsage(**(_NO_USAGE | {"digital_signature": True}))


@dataclass(frozen=True, slots=True)
class EcKey:
    """A P-256 private key; its repr shows nothing."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @staticmethod
    def generate() -> EcKey:
        return EcKey(ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def from_der(pkcs8: bytes) -> EcKey:
        """Raises BadInput `bad_private_key`."""
        try:
            key = ser.load_der_private_key(pkcs8, None)
        except (ValueError, TypeError):
            raise BadInput("bad_private_key", "the private key is not unencrypted PKCS#8") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadInput("bad_private_key", "the private key is not on P-256")
        return EcKey(key)

    def to_der(self) -> bytes:
        return self._key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())

    def to_pem(self) -> bytes:
        return self._key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())

    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)

    def request(self) -> bytes:
        """A PEM certificate request (PKCS#10) that proves possession of this key."""
        return self._request().public_bytes(ser.Encoding.PEM)

    def request_der(self) -> bytes:
        return self._request().public_bytes(ser.Encoding.DER)

    def _request(self) -> x509.CertificateSigningRequest:
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Rempart")])
        return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self._key, hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Certificate:
    """What others need to know of one certificate. `serial` in lower-case hexadecimal."""

    der: bytes = field(repr=False)
    serial: str
    not_before: float
    not_after: float
    fingerprint: str

    @staticmethod
    def parse(der: bytes) -> Certificate:
        """Raises BadInput `bad_certificate`."""
        return _describe(load(der))

    def pem(self) -> bytes:
        return load(self.der).public_bytes(ser.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """PKCS#10, signed by the P-256 key that it is for. `names`: what it asks to be called, each as OpenSSL writes it
    (`URI:spiffe://…`); nobody has to grant them."""

    _key: ec.EllipticCurvePublicKey = field(repr=False)
    names: tuple[str, ...]

    @staticmethod
    def parse(der: bytes) -> CertificateRequest:
        """Raises BadInput `bad_certificate_request`."""
        try:
            request = x509.load_der_x509_csr(der)
            proved, public = request.is_signature_valid, request.public_key()
            names = _requested_names(request)
        except UNREADABLE:
            raise BadInput("bad_certificate_request", "this is not a DER certificate request") from None
        if not proved or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise BadInput("bad_certificate_request", "the request is not signed by a P-256 key of its own")
        return CertificateRequest(public, names)

    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)


def _requested_names(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    kinds = {x509.UniformResourceIdentifier: "URI", x509.DNSName: "DNS"}
    return tuple(f"{kinds.get(type(name), type(name).__name__)}:{name.value}" for name in names)


def load(der: bytes) -> x509.Certificate:
    """For this package only; raises BadInput `bad_certificate`."""
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise BadInput("bad_certificate", "this is not a DER certificate") from None


def _describe(certificate: x509.Certificate) -> Certificate:
    return Certificate(
        der=certificate.public_bytes(ser.Encoding.DER),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def same_key(der: bytes, key: EcKey) -> bool:
    """Is the certificate for this key?"""
    spki = load(der).public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    return spki == key.public_der()


def pem_to_ders(pem: str | bytes) -> list[bytes]:
    """Every certificate of a PEM text, in order; raises BadInput `bad_certificate` when there is none."""
    try:
        loaded = x509.load_pem_x509_certificates(pem.encode() if isinstance(pem, str) else pem)
    except UNREADABLE:
        raise BadInput("bad_certificate", "no PEM certificate found") from None
    return [certificate.public_bytes(ser.Encoding.DER) for certificate in loaded]


def ders_to_pem(ders: Sequence[bytes]) -> bytes:
    return b"".join(load(der).public_bytes(ser.Encoding.PEM) for der in ders)


def _when(epoch: float) -> datetime:
    return datetime.fromtimestamp(int(epoch), UTC)


def _name(common_name: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Rempart")]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]))  # X.520: at most 64 characters
    return x509.Name(attributes)


def _host_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def self_sign_root(key: EcKey, *, common_name: str, trust_domain: str | None, now: float, ttl: float) -> Certificate:
    """A root that may sign issuing CAs and nothing deeper. With a `trust_domain` it carries `spiffe://{trust_domain}`
    (X509-SVID section 3.1)."""
    name = _name(common_name)
    builder = _ca_builder(name, name, key._key.public_key(), path_length=1, now=now, ttl=ttl)
    if trust_domain is not None:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
        builder = builder.add_extension(san, critical=False)
    return _describe(builder.sign(key._key, hashes.SHA256()))


def _ca_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    *,
    path_length: int,
    now: float,
    ttl: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())  # 159 random bits (RFC 5280 section 4.1.2.2)
        .not_valid_before(_when(now - BACKDATED))
        .not_valid_after(_when(now + ttl))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def sign_issuing(
    request_pem: str | bytes,
    *,
    root: Certificate,
    root_key: EcKey | CaKey,
    common_name: str,
    trust_domain: str | None,
    host_names: Sequence[str],
    now: float,
    ttl: float,
) -> Certificate:
    """An issuing CA for the key that the request proves: path length 0, never outliving its root.

    With `host_names` it is constrained to those DNS names and addresses (RFC 5280 section 4.2.1.10).
    Raises BadInput `bad_certificate_request`.
    """
    try:
        request = x509.load_pem_x509_csr(request_pem.encode() if isinstance(request_pem, str) else request_pem)
        proved = request.is_signature_valid
        public = request.public_key()
    except UNREADABLE:
        raise BadInput("bad_certificate_request", "this is not a PEM certificate request") from None
    if not proved or not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise BadInput("bad_certificate_request", "the request is not signed by a P-256 key of its own")
    signer = load(root.der)
    builder = _ca_builder(
        _name(common_name), signer.subject, public, path_length=0, now=now, ttl=min(ttl, root.not_after - now)
    ).add_extension(_above(signer), critical=False)
    if trust_domain is not None:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
        builder = builder.add_extension(san, critical=False)
    if host_names:
        builder = builder.add_extension(_constraints(host_names), critical=True)
    return _describe(builder.sign(root_key._key, hashes.SHA256()))


def _above(signer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As the certificate above says of itself (RFC 5280 section 4.2.1.1): who made it may name keys in another way."""
    try:
        known = signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())  # type: ignore[arg-type]  # RSA or EC
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _authority_key(issuer_key: EcKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key._key.public_key())


def _constraints(host_names: Sequence[str]) -> x509.NameConstraints:
    """What is not named at all is excluded as a whole, with one exception.

    BoringSSL (Envoy, gRPC, Android) refuses a certificate with an address below an authority with constraints on
    addresses, instead of checking them. So where addresses are among the names, addresses are left free.
    """
    names = _host_names(host_names)
    permitted = [name for name in names if not isinstance(name, x509.IPAddress)]
    excluded: list[x509.GeneralName] = []
    if not permitted:
        excluded.append(x509.DNSName(""))
    if len(permitted) == len(names):
        excluded += [x509.IPAddress(ipaddress.ip_network(network)) for network in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted or None, excluded or None)


def _sign_leaf(
    public: ec.EllipticCurvePublicKey,
    san: x509.SubjectAlternativeName,
    purposes: Sequence[x509.ObjectIdentifier],
    *,
    issuing: Certificate,
    issuing_key: EcKey,
    now: float,
    ttl: float,
) -> Certificate:
    signer = load(issuing.der)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name())
        .issuer_name(signer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_when(max(now - BACKDATED, issuing.not_before)))
        .not_valid_after(_when(min(now + ttl, issuing.not_after)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNS_HANDSHAKES, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(san, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_key(issuing_key), critical=False)
    )
    return _describe(builder.sign(issuing_key._key, hashes.SHA256()))


def sign_svid(
    key: EcKey | CertificateRequest,
    spiffe_id: SpiffeId,
    *,
    dns_names: Sequence[str] = (),
    issuing: Certificate,
    issuing_key: EcKey,
    now: float,
    ttl: float,
) -> Certificate:
    """An X.509-SVID: exactly one URI SAN, digitalSignature only, for both ends of a handshake (X509-SVID section 4)."""
    san = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(str(spiffe_id)), *(x509.DNSName(name) for name in dns_names)]
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    public = key._key if isinstance(key, CertificateRequest) else key._key.public_key()
    return _sign_leaf(public, san, purposes, issuing=issuing, issuing_key=issuing_key, now=now, ttl=ttl)


def sign_server(
    key: EcKey, host_names: Sequence[str], *, issuing: Certificate, issuing_key: EcKey, now: float, ttl: float
) -> Certificate:
    """A web server certificate for DNS names and IP addresses (RFC 6125)."""
    san = x509.SubjectAlternativeName(_host_names(host_names))
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH]
    return _sign_leaf(key._key.public_key(), san, purposes, issuing=issuing, issuing_key=issuing_key, now=now, ttl=ttl)
