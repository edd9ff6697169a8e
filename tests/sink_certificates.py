"""Certificates for receivers of events and for us: one authority, RSA or elliptic keys in PKCS #8."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Pki:
    """PEM files `ca.pem`, `NAME.pem`, `NAME.key` in `directory`; every certificate is for localhost, too."""

    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()


def make_pki(directory: Path, *names: str) -> Pki:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca.example")])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    _write(directory, "ca", _certificate(ca_name, ca_name, ca_key, ca_key, authority), None)
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.example")])
        end = x509.BasicConstraints(ca=False, path_length=None)
        _write(directory, name, _certificate(subject, ca_name, key, ca_key, end), key)
    return Pki(directory)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    constraints: x509.BasicConstraints,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    own = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    names = [x509.DNSName(str(own)), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not constraints.ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _write(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> None:
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(ser.Encoding.PEM))
    if key is not None:
        form = (ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
        (directory / f"{name}.key").write_bytes(key.private_bytes(*form))
