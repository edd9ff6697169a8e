"""Messages of the Workload API by hand, held against the classes that protoc makes of `workload.proto`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from rempart.protocols.protobuf import Malformed
from rempart.protocols.spiffe import messages
from rempart.protocols.spiffe import workload_pb2 as generated

MAPS = st.dictionaries(st.text(max_size=20), st.binary(max_size=40), max_size=4)
UNKNOWN = st.sampled_from((b"", b"\x78\x05", b"\x7a\x02hi", b"\x79" + bytes(8), b"\x7d" + bytes(4)))


@given(st.lists(st.text()), st.text(), UNKNOWN)
def test_a_jwt_svid_is_asked_for(audience: list[str], spiffe_id: str, unknown: bytes) -> None:
    data = generated.JWTSVIDRequest(audience=audience, spiffe_id=spiffe_id).SerializeToString()
    assert messages.JwtSvidRequest.read(data + unknown) == messages.JwtSvidRequest(tuple(audience), spiffe_id)


@given(st.text(), st.text(), UNKNOWN)
def test_one_is_to_be_validated(audience: str, svid: str, unknown: bytes) -> None:
    data = generated.ValidateJWTSVIDRequest(audience=audience, svid=svid).SerializeToString()
    assert messages.ValidateRequest.read(unknown + data) == messages.ValidateRequest(audience, svid)


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (messages.JwtSvidRequest.read, generated.JWTSVIDRequest),
        (messages.ValidateRequest.read, generated.ValidateJWTSVIDRequest),
        (messages.nothing, generated.X509SVIDRequest),
    ],
)
@given(
    data=st.binary(max_size=40)
    | st.lists(st.sampled_from((b"\x0a\x01a", b"\x12\x01b", b"\x0a\x01\xff", b"\x08\x01")), max_size=5).map(b"".join)
)
def test_the_same_bytes_are_read_alike(read: Any, kind: Any, data: bytes) -> None:
    """Where both read them: protobuf also passes over groups, which are refused here."""
    try:
        ours = read(data)
    except Malformed:
        return
    try:
        theirs = kind.FromString(data)
    except DecodeError:  # pragma: no cover - shown when it fails
        raise AssertionError(f"protobuf refuses {data!r}") from None
    if isinstance(ours, messages.JwtSvidRequest):
        assert (list(ours.audience), ours.spiffe_id) == (list(theirs.audience), theirs.spiffe_id)
    elif isinstance(ours, messages.ValidateRequest):
        assert (ours.audience, ours.svid) == (theirs.audience, theirs.svid)


@pytest.mark.parametrize("data", [b"\x0a\x02\xff\xfe", b"\x12\x02\xff\xfe", b"\x0a\x05a"])
def test_what_is_no_request(data: bytes) -> None:
    for read in (messages.JwtSvidRequest.read, messages.ValidateRequest.read):
        with pytest.raises(Malformed):
            read(data)


@given(st.lists(st.tuples(st.text(), st.binary(), st.binary(), st.binary(), st.text()), max_size=3), MAPS)
def test_x509_svids(svids: list[tuple[str, bytes, bytes, bytes, str]], federated: dict[str, bytes]) -> None:
    data = messages.x509_svids([messages.x509_svid(*svid) for svid in svids], federated)
    names = ("spiffe_id", "x509_svid", "x509_svid_key", "bundle", "hint")
    expected = generated.X509SVIDResponse(
        svids=[generated.X509SVID(**dict(zip(names, svid, strict=True))) for svid in svids],  # type: ignore[arg-type]  # each by its name
        federated_bundles=federated,
    )
    assert generated.X509SVIDResponse.FromString(data) == expected


@given(MAPS)
def test_bundles(bundles: dict[str, bytes]) -> None:
    x509, jwt = generated.X509BundlesResponse(bundles=bundles), generated.JWTBundlesResponse(bundles=bundles)
    assert generated.X509BundlesResponse.FromString(messages.x509_bundles(bundles)) == x509
    assert generated.JWTBundlesResponse.FromString(messages.jwt_bundles(bundles)) == jwt


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4))
def test_jwt_svids(svids: list[tuple[str, str, str]]) -> None:
    expected = generated.JWTSVIDResponse(
        svids=[generated.JWTSVID(spiffe_id=id_, svid=token, hint=hint) for id_, token, hint in svids]
    )
    assert generated.JWTSVIDResponse.FromString(messages.jwt_svids(svids)) == expected


@given(st.text(), st.dictionaries(st.text(), st.text() | st.lists(st.text()) | st.integers(0, 2**40), max_size=4))
def test_what_was_validated(spiffe_id: str, claims: dict[str, Any]) -> None:
    expected = generated.ValidateJWTSVIDResponse(spiffe_id=spiffe_id)
    expected.claims.SetInParent()
    expected.claims.update(claims)
    assert generated.ValidateJWTSVIDResponse.FromString(messages.validated(spiffe_id, claims)) == expected
