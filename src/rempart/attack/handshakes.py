"""Spoofing at the transport: no certificate, a wrong one, an old protocol, no TLS at all."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from datetime import timedelta

from .certificates import Authority, Identity
from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried
from .scene import Scene
from .wire import Address, NoAnswer, connect, encode, exchange

_REFUSED = Trace(("mesh.handshake_refused",))
_HANDSHAKE, _ALERT = 0x16, 0x15


def attacks() -> Iterator[Attack]:
    """Against every sidecar where that is cheap, else against the wallet's."""

    def spoof(id: str, title: str, tried: str, make: Callable[[Scene], Identity | None]) -> Attack:
        return Attack(
            id,
            Actor.ROGUE_WORKLOAD,
            title,
            tried,
            "no HTTP answer: the handshake fails",
            lambda scene: _mtls(scene, make(scene)),
            Alert.HANDSHAKES,
        )

    yield spoof(
        "S-no-client-certificate", "No client certificate", "mTLS to each sidecar without one", lambda scene: None
    )
    yield spoof(
        "S-foreign-ca",
        "SVID of a foreign CA",
        "a service's SPIFFE ID in a certificate of an own CA",
        lambda scene: scene.foreign.issue(scene.posed),
    )
    yield spoof(
        "S-foreign-gateway",
        "The gateway's name from a foreign CA",
        "the gateway's SPIFFE ID in a certificate of an own CA",
        lambda scene: scene.foreign.issue(_id(scene, "rempart", "gateway")),
    )
    yield spoof(
        "S-expired-svid",
        "Expired SVID",
        "a service's SPIFFE ID, expired a day ago",
        lambda scene: _authority(scene).issue(scene.posed, age=timedelta(days=1)),
    )
    yield spoof(
        "S-no-spiffe-id",
        "Certificate without SPIFFE ID",
        "a certificate with a service's DNS name only",
        lambda scene: _authority(scene).issue(dns=[scene.posed.rsplit("/", 1)[1], "localhost"]),
    )
    yield spoof(
        "S-foreign-trust-domain",
        "Another trust domain",
        "spiffe://partner.example/payment of its own CA",
        lambda scene: scene.foreign.issue("spiffe://partner.example/payment"),
    )
    yield spoof(
        "S-ca-as-leaf",
        "CA certificate as client certificate",
        "a certificate that may sign others, with a service's SPIFFE ID",
        lambda scene: _authority(scene).issue(scene.posed, ca=True),
    )
    yield Attack(
        "S-two-uri-sans",
        Actor.ROGUE_WORKLOAD,
        "Two URI SANs",
        "a certificate that names a partner's workload and a service",
        "refused: an SVID names one identity",
        _two_uri_sans,
        Alert.SVIDS_DENIED,
    )
    yield Attack(
        "I-plaintext-sidecar",
        Actor.OUTSIDER,
        "Plaintext to a sidecar",
        "GET /wallet without TLS at every mTLS port",
        "no HTTP answer",
        _plaintext_sidecars,
        Alert.HANDSHAKES,
    )
    yield Attack(
        "I-plaintext-gateway",
        Actor.OUTSIDER,
        "Plaintext to the gateway",
        "POST /login without TLS",
        "no HTTP answer",
        lambda scene: _plaintext(scene, scene.gateway),
        Alert.HANDSHAKES,
    )
    for version, name in ((0x0300, "SSL 3.0"), (0x0301, "TLS 1.0"), (0x0302, "TLS 1.1")):
        yield Attack(
            "I-" + name.lower().replace(" ", "-"),
            Actor.OUTSIDER,
            f"{name} to the gateway",
            f"a ClientHello that offers {name} at most",
            "a TLS alert instead of a ServerHello",
            _old(version),
            Alert.HANDSHAKES,
        )
    yield Attack(
        "I-weak-ciphers",
        Actor.OUTSIDER,
        "Broken cipher suites",
        "TLS 1.2 with NULL, anonymous, export, RC4 and 3DES suites only",
        "a TLS alert instead of a ServerHello",
        lambda scene: _hello(scene.gateway, 0x0303, _WEAK),
        Alert.HANDSHAKES,
    )


def _id(scene: Scene, *path: str) -> str:
    return "/".join((f"spiffe://{scene.trust_domain}", *path))


def _authority(scene: Scene) -> Authority:
    return scene.means.authority or scene.foreign


def _mtls(scene: Scene, identity: Identity | None) -> Outcome:
    seen: dict[str, str] = {}
    for service in scene.services:
        try:
            reply = scene.mtls(service, identity, "GET", "/wallet?user_id=x")
        except NoAnswer as refusal:
            seen[service] = str(refusal)
        else:
            return got_through(f"{service} answered {reply.said}", reply.evidence)
    return blocked(f"{len(seen)} sidecars: {sorted(set(seen.values()))[0]}", "mTLS handshake", _REFUSED)


def _two_uri_sans(scene: Scene) -> Outcome:
    """With our own CA when a test lends it: then the handshake may succeed and the PDP has to see it."""
    identity = _authority(scene).issue("spiffe://partner.example/x", scene.posed)
    swapped = _authority(scene).issue(scene.posed, "spiffe://partner.example/x")
    service = "wallet" if "wallet" in scene.services else next(iter(scene.services))
    seen: list[Outcome] = []
    for each in (identity, swapped):
        try:
            reply = scene.mtls(service, each, "POST", "/transfers", body=b"{}")
        except NoAnswer as refusal:
            seen.append(blocked(str(refusal), "mTLS handshake", _REFUSED))
            continue
        if reply.status not in (401, 403):
            return got_through(f"{service} answered {reply.said}", reply.evidence)
        seen.append(blocked(reply.said, "policy decision: more than one URI SAN", reply.evidence))
    return seen[-1]


def _plaintext(scene: Scene, address: Address) -> Outcome:
    try:
        with connect(address, source=scene.source) as connection:
            reply = exchange(connection, encode("POST", "/login", body=b"{}"))[0]
    except NoAnswer as refusal:
        return blocked(str(refusal), "TLS only", _REFUSED)
    return got_through(f"answered {reply.said} in plaintext")


def _plaintext_sidecars(scene: Scene) -> Outcome:
    outcomes = [_plaintext(scene, address) for address, _ in scene.services.values()]
    return (
        next((outcome for outcome in outcomes if not outcome.blocked), outcomes[0])
        if outcomes
        else not_tried("no service")
    )


_WEAK = (0x0000, 0x0001, 0x0002, 0x003B, 0x0034, 0x006C, 0x0003, 0x0008, 0x0004, 0x0005, 0x000A, 0xC012, 0xC016)
_OLD = (0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035, 0x000A)


def _old(version: int) -> Callable[[Scene], Outcome]:
    return lambda scene: _hello(scene.gateway, version, _OLD)


def _hello(address: Address, version: int, suites: tuple[int, ...]) -> Outcome:
    """Hand-made (RFC 5246 section 7.4.1.2), since today's TLS libraries refuse to offer any of it."""
    try:
        with connect(address) as connection:
            connection.sendall(client_hello(version, suites))
            answer = b""
            with contextlib.suppress(OSError):
                answer = connection.recv(7)
    except NoAnswer as refusal:
        return not_tried(str(refusal))
    if answer[:1] == bytes([_HANDSHAKE]):
        return got_through("the gateway went on with the handshake")
    said = f"TLS alert {answer[6]}" if answer[:1] == bytes([_ALERT]) and len(answer) == 7 else "closed"
    return blocked(said, "TLS settings", _REFUSED)


def client_hello(version: int, suites: tuple[int, ...]) -> bytes:
    """A record with a ClientHello: P-256 and P-384, uncompressed points, RSA and ECDSA signatures for TLS 1.2."""
    groups = b"\x00\x0a\x00\x06\x00\x04\x00\x17\x00\x18"
    points = b"\x00\x0b\x00\x02\x01\x00"
    signatures = b"\x00\x0d\x00\x08\x00\x06\x04\x01\x04\x03\x02\x01" if version >= 0x0303 else b""
    extensions = groups + points + signatures if version > 0x0300 else b""
    body = struct.pack(">H", version) + os.urandom(32) + b"\0"
    body += struct.pack(f">H{len(suites)}H", 2 * len(suites), *suites) + b"\x01\0"
    if extensions:
        body += struct.pack(">H", len(extensions)) + extensions
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return bytes([_HANDSHAKE]) + struct.pack(">HH", min(version, 0x0301), len(handshake)) + handshake
