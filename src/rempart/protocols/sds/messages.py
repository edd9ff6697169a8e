"""The messages of Envoy's secret discovery service, on the side of who serves it: `sds.proto` has their fields."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rempart.protocols.protobuf import BYTES, VARINT, decoded, field, fields, member, of, text

SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # nosec B105 - a type's name
VALIDATOR = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"


@dataclass(frozen=True, slots=True)
class Node:
    """What an Envoy says that it is. `said`: what its metadata say as text, `true` or `false`; `version`: the major and
    the minor one, None where it says none."""

    said: dict[str, str]
    version: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """`nonce` is that of the response which this answers; `rejected`: with a refusal of it."""

    names: tuple[str, ...]
    type_url: str
    nonce: str
    rejected: bool
    node: Node | None

    @staticmethod
    def read(data: bytes) -> DiscoveryRequest:
        """Raises Malformed."""
        names: list[str] = []
        told = {4: "", 5: ""}
        node: list[bytes] = []
        rejected = False
        for number, kind, value in fields(data):
            if kind != BYTES:
                continue
            if number == 2:
                node.append(value)
            elif number == 3:
                names.append(decoded(value))
            elif number in told:
                told[number] = decoded(value)
            rejected = rejected or number == 6
        return DiscoveryRequest(tuple(names), told[4], told[5], rejected, _node(b"".join(node)) if node else None)


def _node(data: bytes) -> Node:
    metadata, build = b"".join(of(data, 3)), of(data, 8)
    said = {}
    for entry in of(metadata, 1):
        if (value := _said(b"".join(of(entry, 2)))) is not None:
            said[decoded(b"".join(of(entry, 1)[-1:]))] = value
    numbers = {1: 0, 2: 0}
    for number, kind, value in fields(b"".join(of(b"".join(build), 1))):
        if kind == VARINT and number in numbers:
            numbers[number] = value & (1 << 32) - 1
    return Node(said, (numbers[1], numbers[2]) if build else None)


def _said(value: bytes) -> str | None:
    """Of a `google.protobuf.Value`, where it is a text or a truth; the last of several holds."""
    said = None
    for number, kind, content in fields(value):
        if number == 3 and kind == BYTES:
            said = decoded(content)
        elif number == 4 and kind == VARINT:
            said = "true" if content else "false"
        else:
            said = None
    return said


def response(secrets: Iterable[bytes], version: str = "") -> bytes:
    """`version` is its nonce, too."""
    resources = b"".join(member(2, _any(SECRET, secret)) for secret in secrets)
    return text(1, version) + resources + text(4, SECRET) + text(5, version)


def certificate(name: str, chain: bytes, key: bytes) -> bytes:
    """A Secret; `chain` and `key` in PEM."""
    return text(1, name) + member(2, member(1, _inline(chain)) + member(2, _inline(key)))


def roots(name: str, pem: bytes) -> bytes:
    """A Secret: plain roots, which say nothing of trust domains."""
    return text(1, name) + member(4, member(1, _inline(pem)))


def validator(name: str, domains: Iterable[tuple[str, bytes]]) -> bytes:
    """A Secret: the SPIFFE validator; trust domains with their roots in PEM."""
    config = b"".join(member(1, text(1, domain) + member(2, _inline(pem))) for domain, pem in domains)
    extension = text(1, "envoy.tls.cert_validator.spiffe") + member(2, _any(VALIDATOR, config))
    return text(1, name) + member(4, member(12, extension))


def _inline(data: bytes) -> bytes:
    """A DataSource."""
    return member(2, data)


def _any(type_url: str, message: bytes) -> bytes:
    return text(1, type_url) + field(2, message)
