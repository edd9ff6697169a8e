"""What a stranger's certificate says counts when an authority issued it for that, and nothing it holds breaks us."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.upstream_ca import Ca, make_ca

from rempart.crypto.client_chain import load_authorities, read_certificate
from rempart.kernel.errors import BadInput

OURS = make_ca("Partners")
NAMED = x509.SubjectAlternativeName(
    [
        x509.DNSName("api.partner.example"),
        x509.UniformResourceIdentifier("spiffe://partner.example/api"),
        x509.RFC822Name("ops@partner.example"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
    ]
)


def issue(
    *extensions: x509.ExtensionType, ca: Ca = OURS, days: tuple[int, int] = (-1, 1), critical: bool = False
) -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")]))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ca.key, hashes.SHA256())


def names(leaf: x509.Certificate, authorities: str = OURS.pem()) -> frozenset[str]:
    read = read_certificate(leaf.public_bytes(Encoding.PEM).decode())
    assert read is not None
    assert read.digest == leaf.fingerprint(hashes.SHA256())
    return read.names(load_authorities(authorities), time.time())


def test_every_kind_of_name_is_told() -> None:
    assert names(issue(NAMED)) == {
        "dn:CN=api",
        "dns:api.partner.example",
        "uri:spiffe://partner.example/api",
        "email:ops@partner.example",
        "ip:192.0.2.7",
    }
    assert names(issue()) == {"dn:CN=api"}


@pytest.mark.parametrize(
    "leaf",
    [
        issue(NAMED, ca=make_ca("Partners")),
        issue(NAMED, days=(-3, -1)),
        issue(NAMED, days=(1, 2)),
        issue(NAMED, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
        issue(NAMED, x509.BasicConstraints(True, None)),
        issue(NAMED, x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), critical=True),
    ],
    ids=["another authority", "expired", "not yet", "for servers", "an authority itself", "a rule we don't know"],
)
def test_what_no_authority_vouches_for_names_nobody(leaf: x509.Certificate) -> None:
    assert names(leaf) == frozenset()


def test_below_an_intermediate_only_the_intermediate_itself_vouches() -> None:
    between = make_ca("Department", OURS)
    leaf = issue(NAMED, ca=between)
    assert names(leaf) == frozenset()
    assert names(leaf, OURS.pem() + between.pem())


def test_authorities_that_cannot_be_are_refused() -> None:
    leaf = issue().public_bytes(Encoding.PEM).decode()
    for wrong in ("", "nonsense", leaf, OURS.pem() + leaf, OURS.pem() * 65):
        with pytest.raises(BadInput):
            load_authorities(wrong)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_no_content_breaks_the_reading(noise: bytes, where: int, value: int) -> None:
    assert read_certificate(noise.decode("latin-1")) is None
    der = bytearray(_LEAF)
    der[where % len(der)] = value
    pem = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)).decode() + "-----END CERTIFICATE-----\n"
    read = read_certificate(pem)
    if read is not None:
        found = read.names(_AUTHORITIES, time.time())
        assert not found or bytes(der) == _LEAF


_LEAF = issue(NAMED).public_bytes(Encoding.DER)
_AUTHORITIES = load_authorities(OURS.pem())
