"""The messages of the SPIFFE Workload API, on the side of who serves it: `workload.proto` has their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rempart.protocols.protobuf import BYTES, decoded, document, entries, field, fields, member, of, text


def nothing(data: bytes) -> bytes:
    """A request that asks for all there is. Raises Malformed, as the others here."""
    for _ in fields(data):
        pass
    return data


@dataclass(frozen=True, slots=True)
class JwtSvidRequest:
    audience: tuple[str, ...]
    spiffe_id: str

    @staticmethod
    def read(data: bytes) -> JwtSvidRequest:
        audience, spiffe_id = [], ""
        for number, kind, value in fields(data):
            if kind == BYTES and number == 1:
                audience.append(decoded(value))
            elif kind == BYTES and number == 2:
                spiffe_id = decoded(value)
        return JwtSvidRequest(tuple(audience), spiffe_id)


@dataclass(frozen=True, slots=True)
class ValidateRequest:
    audience: str
    svid: str

    @staticmethod
    def read(data: bytes) -> ValidateRequest:
        audience, svid = ([decoded(one) for one in of(data, number)] for number in (1, 2))
        return ValidateRequest(audience[-1] if audience else "", svid[-1] if svid else "")


def x509_svid(spiffe_id: str, chain: bytes, key: bytes, bundle: bytes, hint: str) -> bytes:
    """`chain`: certificates, DER, leaf first; `key`: PKCS#8, DER; `bundle`: certificates, DER."""
    return text(1, spiffe_id) + field(2, chain) + field(3, key) + field(4, bundle) + text(5, hint)


def x509_svids(svids: Iterable[bytes], federated: Mapping[str, bytes]) -> bytes:
    """`svids` as `x509_svid` gives them."""
    return b"".join(member(1, svid) for svid in svids) + entries(3, federated)


def x509_bundles(bundles: Mapping[str, bytes]) -> bytes:
    return entries(2, bundles)


def jwt_svids(svids: Iterable[tuple[str, str, str]]) -> bytes:
    """`svids`: SPIFFE ID, token and hint of each."""
    return b"".join(member(1, text(1, id_) + text(2, token) + text(3, hint)) for id_, token, hint in svids)


def jwt_bundles(bundles: Mapping[str, bytes]) -> bytes:
    return entries(1, bundles)


def validated(spiffe_id: str, claims: Mapping[str, Any]) -> bytes:
    return text(1, spiffe_id) + member(2, document(claims))
