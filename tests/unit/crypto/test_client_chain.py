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

from rempart.crypto.client_chain import check_for_clients, load_authorities, read_certificate
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


def names(leaf: x509.Certificate, *above: x509.Certificate, authorities: str = OURS.pem()) -> frozenset[str]:
    read = read_certificate("".join(one.public_bytes(Encoding.PEM).decode() for one in (leaf, *above)))
    assert read is not None
    assert read.digest == leaf.fingerprint(hashes.SHA256())
    return read.names() if read.path(load_authorities(authorities), time.time()) else frozenset()


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


def test_an_intermediate_is_brought_along_or_stands_with_the_authorities() -> None:
    between = make_ca("Department", OURS)
    leaf = issue(NAMED, ca=between)
    assert names(leaf) == frozenset()
    assert names(leaf, between.certificate)
    assert names(leaf, authorities=OURS.pem() + between.pem())
    assert names(leaf, authorities=between.pem())
    below = make_ca("Office", between)
    deeper = issue(NAMED, ca=below)
    assert names(deeper, below.certificate, between.certificate)
    assert names(deeper, between.certificate, below.certificate)  # in any order
    assert names(deeper, below.certificate) == frozenset()


def test_an_intermediate_does_what_its_authority_allows() -> None:
    """RFC 5280: path length, that it may sign, what it may sign for, the names it is held to."""
    short = make_ca("Short", path_length=1)
    department = make_ca("Department", short)
    office = make_ca("Office", department)
    assert names(issue(NAMED, ca=department), department.certificate, authorities=short.pem())
    too_long = names(issue(NAMED, ca=office), office.certificate, department.certificate, authorities=short.pem())
    assert too_long == frozenset()
    leaf_as_ca = make_ca("No authority", OURS, is_ca=False)
    assert names(issue(NAMED, ca=leaf_as_ca), leaf_as_ca.certificate) == frozenset()
    for rule, stands in (
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True),
        (x509.NameConstraints([x509.DNSName("partner.example")], None), True),
        (x509.NameConstraints([x509.DNSName("other.example")], None), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), False),
    ):
        bound = below_ours(rule)
        assert bool(names(issue(DNS, ca=bound), bound.certificate)) is stands, rule


DNS = x509.SubjectAlternativeName([x509.DNSName("api.partner.example")])


def below_ours(rule: x509.ExtensionType) -> Ca:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bound")]))
        .issuer_name(OURS.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(rule, critical=True)
    )
    return Ca(builder.sign(OURS.key, hashes.SHA256()), key)


def test_authorities_that_the_verifier_cannot_follow_are_told_at_the_start() -> None:
    check_for_clients(OURS.pem() + make_ca("RSA", kind="2048").pem() + make_ca("P-256", kind="P-256").pem())
    for kind in ("1024", "P-224"):
        with pytest.raises(BadInput, match="not followed"):
            check_for_clients(make_ca("Weak", kind=kind).pem())


def test_an_authority_whose_key_nobody_can_read_is_refused() -> None:
    curve = bytes.fromhex("06082a8648ce3d030107")  # P-256, once in a certificate: the next number is no curve
    der = make_ca("Odd", kind="P-256").certificate.public_bytes(Encoding.DER).replace(curve, curve[:-1] + b"\x6f")
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
    with pytest.raises(BadInput, match="not followed"):
        check_for_clients(pem)


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
        read.names()
        assert not read.path(_AUTHORITIES, time.time()) or bytes(der) == _LEAF


_LEAF = issue(NAMED).public_bytes(Encoding.DER)
_AUTHORITIES = load_authorities(OURS.pem())
