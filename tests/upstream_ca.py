"""CAs as a company might have them: RSA or elliptic, a root alone or an intermediate below one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from rempart.servers.disk_upstream import DiskUpstream


@dataclass(frozen=True)
class Ca:
    certificate: x509.Certificate
    key: Any

    def pem(self) -> str:
        return self.certificate.public_bytes(ser.Encoding.PEM).decode()

    def key_pem(self) -> str:
        form = (ser.Encoding.PEM, ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption())
        return str(self.key.private_bytes(*form).decode())


def make_ca(
    name: str,
    above: Ca | None = None,
    *,
    kind: str = "P-384",
    path_length: int | None = None,
    is_ca: bool = True,
    uri: str = "",
    uris: tuple[str, ...] = (),
    days: float = 365,
) -> Ca:
    key: Any = (
        rsa.generate_private_key(65537, int(kind))
        if kind.isdigit()
        else ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-224": ec.SECP224R1()}[kind])
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = (not is_ca, False, False, False, False, is_ca, is_ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None), critical=True)
        .add_extension(x509.KeyUsage(*usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(name.encode()), critical=False)  # not the hash that others would use
    )
    if above:
        known = above.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
        builder = builder.add_extension(issuer, critical=False)
    if named := (*uris, *((uri,) if uri else ())):
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(one) for one in named])
        builder = builder.add_extension(names, critical=False)
    return Ca(builder.sign(above.key if above else key, hashes.SHA256()), key)


def write_upstream(directory: Path, trust_domain: str, *chain: Ca, bundle: Ca | None = None) -> DiskUpstream:
    """`chain`: what signs first."""
    (directory / "ca.pem").write_text("".join(ca.pem() for ca in chain))
    (directory / "ca.key").write_text(chain[0].key_pem())
    (directory / "ca.key").chmod(0o400)
    if bundle:
        (directory / "root.pem").write_text(bundle.pem())
    place = directory / "root.pem" if bundle else None
    return DiskUpstream(directory / "ca.pem", directory / "ca.key", place, trust_domain)
