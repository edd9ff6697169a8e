"""Certificates and the refusal of every one that is not a proper SVID."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.crypto import x509
from rempart.crypto.public_jwk import public_jwk
from rempart.crypto.svid import verify_issuing, verify_svid
from rempart.kernel.errors import BadInput, RempartError, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

DOMAIN = "bank.example"
WALLET = SpiffeId.parse(f"spiffe://{DOMAIN}/wallet")
NOW = float(int(time.time()))


def authority(
    now: float = NOW, ttl: float = 86400, names: tuple[str, ...] = (), domain: str | None = DOMAIN
) -> tuple[x509.Certificate, x509.Certificate, x509.EcKey]:
    root_key, key = x509.EcKey.generate(), x509.EcKey.generate()
    root = x509.self_sign_root(root_key, common_name="root", trust_domain=domain, now=now, ttl=ttl * 10)
    issuing = x509.sign_issuing(
        key.request(),
        root=root,
        root_key=root_key,
        common_name="issuing",
        trust_domain=domain,
        host_names=names,
        now=now,
        ttl=ttl,
    )
    return root, issuing, key


ROOT, ISSUING, ISSUING_KEY = authority()


def svid(now: float = NOW, ttl: float = 3600, **more: Any) -> x509.Certificate:
    key = x509.EcKey.generate()
    return x509.sign_svid(key, WALLET, issuing=ISSUING, issuing_key=ISSUING_KEY, now=now, ttl=ttl, **more)


def verify(chain: list[x509.Certificate], roots: tuple[x509.Certificate, ...] = (ROOT,), now: float = NOW) -> SpiffeId:
    ders = [certificate.der for certificate in chain]
    return verify_svid(ders, [root.der for root in roots], trust_domain=DOMAIN, now=now)


def forged(
    uris: list[str],
    *,
    ca: bool = False,
    signs: bool = False,
    digital_signature: bool = True,
    san: bool = True,
    signer: x509.EcKey = ISSUING_KEY,
) -> x509.Certificate:
    """What our own functions never make, from the library itself, signed by the issuing CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.datetime.fromtimestamp(NOW - 60, datetime.UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    builder = (
        reference.CertificateBuilder()
        .subject_name(reference.Name([reference.NameAttribute(NameOID.ORGANIZATION_NAME, "x")]))
        .issuer_name(reference.load_der_x509_certificate(ISSUING.der).subject)
        .public_key(key.public_key())
        .serial_number(reference.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(hours=1))
        .add_extension(reference.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            reference.KeyUsage(
                digital_signature=digital_signature, key_cert_sign=signs, crl_sign=False, decipher_only=False, **usage
            ),
            critical=True,
        )
    )
    if san:
        names = reference.SubjectAlternativeName([reference.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(signer._key, hashes.SHA256())

    return x509.Certificate.parse(certificate.public_bytes(Encoding.DER))


def test_an_svid_verifies_under_its_root() -> None:
    assert verify([svid(), ISSUING]) == WALLET


def test_its_shape_is_that_of_the_standard() -> None:
    certificate = reference.load_der_x509_certificate(svid().der)
    names = certificate.extensions.get_extension_for_class(reference.SubjectAlternativeName).value
    assert names.get_values_for_type(reference.UniformResourceIdentifier) == [str(WALLET)]
    usage = certificate.extensions.get_extension_for_class(reference.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not certificate.extensions.get_extension_for_class(reference.BasicConstraints).value.ca
    assert certificate.serial_number.bit_length() > 100
    assert certificate.not_valid_before_utc.timestamp() == NOW - x509.BACKDATED
    assert certificate.not_valid_after_utc.timestamp() == NOW + 3600


def test_serials_and_keys_never_repeat() -> None:
    made = [svid() for _ in range(20)]
    assert len({certificate.serial for certificate in made}) == 20
    assert len({public_jwk(certificate.der)["x"] for certificate in made}) == 20


def test_a_leaf_never_outlives_its_issuing_ca_nor_that_its_root() -> None:
    assert svid(ttl=10 * 86400).not_after == ISSUING.not_after
    root_key, key = x509.EcKey.generate(), x509.EcKey.generate()
    root = x509.self_sign_root(root_key, common_name="r", trust_domain=DOMAIN, now=NOW, ttl=100)
    common = {"root": root, "root_key": root_key, "common_name": "i", "trust_domain": DOMAIN, "host_names": ()}
    assert x509.sign_issuing(key.request(), now=NOW, ttl=1e6, **common).not_after == root.not_after  # type: ignore[arg-type]  # the values of the dict are of several types


PARTNER = "spiffe://partner.example/payer"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"uris": [str(WALLET), PARTNER]}, "exactly one"),
        ({"uris": [PARTNER, str(WALLET)]}, "exactly one"),
        ({"uris": [str(WALLET), str(WALLET)]}, "exactly one"),
        ({"uris": [], "san": False}, "lacks"),
        ({"uris": [PARTNER]}, "trust domain"),
        ({"uris": [f"spiffe://{DOMAIN}"]}, "no workload"),
        ({"uris": [f"https://{DOMAIN}/wallet"]}, "scheme"),
        ({"uris": [f"spiffe://{DOMAIN}/a/../wallet"]}, "segment"),
        ({"uris": [str(WALLET)], "ca": True}, "is a CA"),
        ({"uris": [str(WALLET)], "signs": True}, "key usage"),
        ({"uris": [str(WALLET)], "digital_signature": False}, "key usage"),
        ({"uris": [str(WALLET)], "signer": x509.EcKey.generate()}, "not signed"),
    ],
)
def test_what_is_no_svid_is_refused(bad: dict[str, Any], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as refusal:
        verify([forged(**bad), ISSUING])
    assert refusal.value.code == "bad_svid"


def test_the_forger_itself_can_make_a_good_one() -> None:
    """Else the test above would prove nothing."""
    assert verify([forged([str(WALLET)]), ISSUING]) == WALLET


@pytest.mark.parametrize("moment", [NOW - 31, NOW + 3601])
def test_outside_its_time_it_is_refused(moment: float) -> None:
    with pytest.raises(Unauthenticated, match="expired or not yet valid"):
        verify([svid(), ISSUING], now=moment)


def test_another_root_is_refused() -> None:
    other, _, _ = authority()
    with pytest.raises(Unauthenticated, match="no root"):
        verify([svid(), ISSUING], roots=(other,))
    assert verify([svid(), ISSUING], roots=(other, ROOT)) == WALLET


def test_a_leaf_can_not_issue() -> None:
    key = x509.EcKey.generate()
    leaf = x509.sign_svid(key, WALLET, issuing=ISSUING, issuing_key=ISSUING_KEY, now=NOW, ttl=60)
    deeper = x509.sign_svid(x509.EcKey.generate(), WALLET, issuing=leaf, issuing_key=key, now=NOW, ttl=60)
    with pytest.raises(Unauthenticated):
        verify([deeper, leaf, ISSUING])


def test_an_issuing_ca_can_not_make_another_one() -> None:
    key = x509.EcKey.generate()
    second = x509.sign_issuing(
        key.request(),
        root=ISSUING,
        root_key=ISSUING_KEY,
        common_name="deeper",
        trust_domain=DOMAIN,
        host_names=(),
        now=NOW,
        ttl=60,
    )
    leaf = x509.sign_svid(x509.EcKey.generate(), WALLET, issuing=second, issuing_key=key, now=NOW, ttl=60)
    with pytest.raises(Unauthenticated, match="deeper than it may"):
        verify([leaf, second, ISSUING])


@pytest.mark.parametrize("chain", [[], [b""], [b"\x30\x03abc"], [svid().der] * 5])
def test_nonsense_chains_are_refused(chain: list[bytes]) -> None:
    with pytest.raises(Unauthenticated):
        verify_svid(chain, [ROOT.der], trust_domain=DOMAIN, now=NOW)


@pytest.mark.filterwarnings("ignore:Parsed a:Warning")  # a serial number that is negative, and more of the kind
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_byte_never_passes(data: st.DataObject) -> None:
    der = bytearray(_SAMPLE.der)
    position = data.draw(st.integers(0, len(der) - 1))
    der[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RempartError):
        verify_svid([bytes(der), ISSUING.der], [ROOT.der], trust_domain=DOMAIN, now=NOW)


_SAMPLE = svid()


def test_a_web_issuing_ca_is_bound_to_its_names() -> None:
    _, issuing, _ = authority(names=("localhost", "127.0.0.1"), domain=None)
    constraints = reference.load_der_x509_certificate(issuing.der).extensions.get_extension_for_class(
        reference.NameConstraints
    )
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [reference.DNSName("localhost")]
    assert constraints.value.excluded_subtrees is None  # BoringSSL refuses to check addresses
    _, only_address, _ = authority(names=("127.0.0.1",), domain=None)
    none = reference.load_der_x509_certificate(only_address.der).extensions.get_extension_for_class(
        reference.NameConstraints
    )
    assert none.value.excluded_subtrees == [reference.DNSName("")]
    _, only_dns, _ = authority(names=("localhost",), domain=None)
    excluded = reference.load_der_x509_certificate(only_dns.der).extensions.get_extension_for_class(
        reference.NameConstraints
    )
    assert len(excluded.value.excluded_subtrees or ()) == 2  # no address at all, of either kind


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    request = bytearray(reference.load_pem_x509_csr(x509.EcKey.generate().request()).public_bytes(Encoding.DER))
    request[-3] ^= 1

    for bad in (reference.load_der_x509_csr(bytes(request)).public_bytes(Encoding.PEM), b"junk", _rsa_request()):
        with pytest.raises(BadInput) as refusal:
            x509.sign_issuing(
                bad,
                root=ROOT,
                root_key=x509.EcKey.generate(),
                common_name="x",
                trust_domain=DOMAIN,
                host_names=(),
                now=NOW,
                ttl=1,
            )
        assert refusal.value.code == "bad_certificate_request"


def _rsa_request() -> bytes:

    key = rsa.generate_private_key(65537, 2048)
    name = reference.Name([reference.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = reference.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_an_issuing_certificate_for_another_key_or_root_is_refused() -> None:
    verify_issuing(ISSUING, ISSUING_KEY, [ROOT.der], now=NOW)
    other, _, _ = authority()
    for key, roots, now in (
        (x509.EcKey.generate(), [ROOT.der], NOW),
        (ISSUING_KEY, [other.der], NOW),
        (ISSUING_KEY, [ROOT.der], NOW + 86400),
    ):
        with pytest.raises(Unauthenticated) as refusal:
            verify_issuing(ISSUING, key, roots, now=now)
        assert refusal.value.code == "bad_issuing_certificate"


def test_keys_survive_der_and_show_nothing() -> None:
    key = x509.EcKey.generate()
    assert x509.EcKey.from_der(key.to_der()).public_der() == key.public_der()
    assert "key" not in repr(key).lower().replace("eckey", "")
    for bad in (b"", b"junk", ROOT.der):
        with pytest.raises(BadInput):
            x509.EcKey.from_der(bad)
