"""Verification of X.509-SVIDs (X509-SVID standard, section 5): stricter than most libraries, as one URI SAN demands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import serialization as ser

from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

from .x509 import UNREADABLE, Certificate, EcKey, load


def verify_leaf(der: bytes) -> SpiffeId:
    """The SPIFFE ID of an X.509-SVID whose signature something else has already verified (a TLS handshake).

    Raises Unauthenticated `bad_svid`: no or several URI SANs, no path, a CA, or a key usage that signs certificates
    (X509-SVID sections 2, 4.3 and 5.2).
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
    except UNREADABLE:
        raise _refuse("it is not a well-formed certificate") from None
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        if constraints.ca:
            raise _refuse("it is a CA")
    except x509.ExtensionNotFound:
        pass  # X509-SVID section 4.1: absent means that it is no CA
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise _refuse("it lacks a key usage or a subject alternative name") from None
    if usage.key_cert_sign or usage.crl_sign or not usage.digital_signature:
        raise _refuse("its key usage is not that of an SVID")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refuse(f"it has {len(uris)} URI names and must have exactly one")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except BadInput as error:
        raise _refuse(error.reason) from None
    if not spiffe_id.path:
        raise _refuse("its SPIFFE ID names a trust domain and no workload")
    return spiffe_id


def verify_svid(chain: Sequence[bytes], roots: Sequence[bytes], *, trust_domain: str, now: float) -> SpiffeId:
    """The SPIFFE ID of a whole chain (leaf first, DER), valid at `now` under one of `roots` of this `trust_domain`.

    1. the leaf is an SVID of the trust domain; 2. each certificate is within its time; 3. each is signed by the next,
    which is a CA of enough path length with keyCertSign; 4. the last is signed by a root.
    Raises Unauthenticated `bad_svid`.
    """
    if not chain:
        raise _refuse("the chain is empty or too long")
    spiffe_id = verify_leaf(chain[0])  # 1
    if spiffe_id.trust_domain != trust_domain:
        raise _refuse(f"its trust domain is not {trust_domain}")
    verify_chain(chain, roots, now=now)
    return spiffe_id


def verify_chain(chain: Sequence[bytes], roots: Sequence[bytes], *, now: float) -> bytes:
    """Steps 2 to 4 of `verify_svid`, whatever the leaf is; the root that it comes from. Raises Unauthenticated
    `bad_svid`."""
    if not 1 <= len(chain) <= 4:
        raise _refuse("the chain is empty or too long")
    try:
        loaded = [x509.load_der_x509_certificate(der) for der in chain]
        anchors = [x509.load_der_x509_certificate(der) for der in roots]
    except UNREADABLE:
        raise _refuse("the chain holds something that is no certificate") from None
    for certificate in loaded:
        if not certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp():
            raise _refuse("it is expired or not yet valid")  # 2
    for below, (subject, issuer) in enumerate(itertools.pairwise(loaded)):
        _verify_issued(subject, issuer, below)  # 3
    for anchor in anchors:  # 4
        if not anchor.not_valid_before_utc.timestamp() <= now <= anchor.not_valid_after_utc.timestamp():
            continue
        try:
            _verify_issued(loaded[-1], anchor, len(loaded) - 1)
        except Unauthenticated:
            continue
        return anchor.public_bytes(ser.Encoding.DER)
    raise _refuse("no root of the trust domain signed it")


def _verify_issued(subject: x509.Certificate, issuer: x509.Certificate, cas_below: int) -> None:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        subject.verify_directly_issued_by(issuer)
    except UNREADABLE:
        raise _refuse("a certificate of its chain was not signed by the next one") from None
    if not constraints.ca or not usage.key_cert_sign:
        raise _refuse("something signed it that is no CA")
    if constraints.path_length is not None and constraints.path_length < cas_below:
        raise _refuse("a CA of its chain goes deeper than it may")


def _refuse(why: str) -> Unauthenticated:
    return Unauthenticated("bad_svid", f"the peer's certificate is refused: {why}", "use an SVID of the workload API")


def verify_issuing(
    certificate: Certificate, key: EcKey, roots: Sequence[bytes], *, above: Sequence[bytes] = (), now: float
) -> bytes:
    """That a root-signer's answer is a CA for `key`, valid now, under one of `roots`: which is returned. `above`: what
    lies between the two, the lowest first.

    Raises Unauthenticated `bad_issuing_certificate`.
    """
    loaded = load(certificate.der)
    spki = loaded.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    if spki != key.public_der() or not certificate.not_before <= now < certificate.not_after:
        raise Unauthenticated("bad_issuing_certificate", "the issuing certificate is for another key or another time")
    chain = [loaded, *(load(der) for der in above)]
    for below, (subject, issuer) in enumerate(itertools.pairwise(chain), 1):
        _verify_issued(subject, issuer, below)
    for root in roots:
        try:
            _verify_issued(chain[-1], load(root), len(chain))
        except Unauthenticated:
            continue
        return root
    raise Unauthenticated("bad_issuing_certificate", "the issuing certificate is not under a root of this authority")
