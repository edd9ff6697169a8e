"""The Workload API's socket under fuzz: whatever one peer says, the next honest one is served."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity

from rempart.attack.raw_grpc import spoken
from rempart.sdk.spiffe import fetch_x509_svid
from rempart.workloads.http2 import Kind, frame

METHODS = [
    f"/SpiffeWorkloadAPI/{name}"
    for name in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID")
]
SDS = [f"/envoy.service.secret.v3.SecretDiscoveryService/{name}" for name in ("StreamSecrets", "FetchSecrets")]
SEED = 20_251_121


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    with running_identity() as process:
        yield process


def served(identity: IdentityProcess, within: float = 10.0) -> None:
    began = time.monotonic()
    assert fetch_x509_svid(identity.endpoint).spiffe_id == f"spiffe://{TRUST_DOMAIN}/test"
    assert time.monotonic() - began < within


def say(identity: IdentityProcess, *said: bytes, wait: float = 0.02) -> bytes:
    """What came back within `wait` of the last word."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(str(identity.workload_api))
        connection.settimeout(wait)
        for part in said:
            connection.sendall(part)
        while part := connection.recv(65536):
            answer += part
    return answer


def test_conversations_with_flipped_bytes(identity: IdentityProcess) -> None:
    chance = random.Random(SEED)
    for number in range(300):
        said = bytearray(spoken(chance.choice(METHODS + SDS), b"\n\1a", streams=chance.randint(1, 4)))
        for _ in range(chance.randint(1, 6)):
            said[chance.randrange(24, len(said))] = chance.randrange(256)
        cut = chance.randrange(len(said))
        say(identity, bytes(said[:cut]), bytes(said[cut:]), wait=0.005)
        if number % 100 == 99:
            served(identity)


def test_frames_of_every_kind_in_any_order(identity: IdentityProcess) -> None:
    chance = random.Random(SEED + 1)
    whole = spoken(METHODS[0])
    for number in range(300):
        said = [whole[: chance.choice((24, len(whole)))]]
        for _ in range(chance.randint(1, 30)):
            content = chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 40)))
            kind = chance.choice(list(Kind))
            said.append(frame(kind, chance.randrange(256), chance.choice((0, 1, 1, 3, 2, 1 << 30)), content))
        say(identity, b"".join(said), wait=0.005)
        if number % 100 == 99:
            served(identity)


def test_no_message_however_malformed_is_an_internal_error(identity: IdentityProcess) -> None:
    chance = random.Random(SEED + 2)
    metadata = (("workload.spiffe.io", "true"),)
    fine = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    seen = set()
    with grpc.insecure_channel(identity.endpoint) as channel:
        for number in range(400):
            content = chance.randbytes(chance.choice((1, 2, 3, 10, 100, 70_000 if number % 50 == 0 else 50)))
            if chance.random() < 0.3:  # fields of the right kind with the wrong content
                content = (
                    bytes((chance.choice((0x0A, 0x12, 0x1A, 0x22)), len(content) % 128)) + content[: len(content) % 128]
                )
            method: Any = channel.unary_unary(chance.choice(METHODS + SDS))
            try:
                method(content, metadata=metadata, timeout=0.05)
            except grpc.RpcError as refusal:
                seen.add(refusal.code())
    seen.discard(grpc.StatusCode.DEADLINE_EXCEEDED)  # a stream that was answered, and stays
    assert seen <= fine
    assert grpc.StatusCode.INVALID_ARGUMENT in seen
    served(identity)
    assert "went wrong" not in (identity.directory / "identity.log").read_text()
    assert "Traceback" not in (identity.directory / "identity.log").read_text()


# Opens connections, says nothing (or half a greeting), and tells how many stood at some time.
_HALF_OPEN = """
import resource, socket, sys, time
wanted = int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
opened = 0
for number in range(wanted):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    try:
        while True:
            try:
                s.connect(sys.argv[1])
                break
            except BlockingIOError:  # the backlog is full for now
                time.sleep(0.001)
        opened += 1
        if number % 2:
            s.sendall(b"PRI * HTTP/2.0")
    except OSError:
        s.close()
        continue
    held.append(s)
try:
    while held[0].recv(65536):  # until the server has seen so many that the first had to go
        pass
except OSError:
    pass
print(opened, flush=True)
sys.stdin.read()
"""


def test_ten_thousand_half_open_connections(identity: IdentityProcess) -> None:
    """As many as this process may have open, up to ten thousand; one uid's share of the server is 512 of them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(10_000, hard - 256 if hard > 0 else 10_000)
    with _attacker(identity, wanted) as attacker:
        for _ in range(5):
            served(identity)  # while it opens them, and its backlog may be full
        assert int(_said(attacker)) > wanted * 0.9
        served(identity)
        assert int(_metric(identity, "rempart_workload_connections")) <= 600
    served(identity)


def test_a_connection_that_has_not_asked_yet_outlives_the_flood_of_another_process(identity: IdentityProcess) -> None:
    """One uid's share is 512: the flood pushes out its own."""
    with socket.socket(socket.AF_UNIX) as honest:
        honest.connect(str(identity.workload_api))
        honest.settimeout(10)
        with _attacker(identity, 700) as attacker:
            assert int(_said(attacker)) > 600
            honest.sendall(spoken(METHODS[0]))
            answer = b""
            while b"application/grpc" not in answer:
                part = honest.recv(65536)
                assert part, "the connection was ended"
                answer += part


@contextlib.contextmanager
def _attacker(identity: IdentityProcess, wanted: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HALF_OPEN, str(identity.workload_api), str(wanted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attacker:
        yield attacker
        assert attacker.stdin is not None
        attacker.stdin.close()


def _said(attacker: subprocess.Popen[str]) -> str:
    assert attacker.stdout is not None
    return attacker.stdout.readline()


def _metric(identity: IdentityProcess, name: str) -> float:
    line = next(line for line in identity.metrics().splitlines() if line.startswith(name + " "))
    return float(line.split()[1])


def test_a_client_that_takes_nothing_of_its_answers(identity: IdentityProcess) -> None:
    """Windows of no size: answers wait for room that never comes, and nobody else waits with them."""
    no_room = frame(Kind.SETTINGS, 0, 0, b"\0\4\0\0\0\0")
    held = []
    try:
        for _ in range(40):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(identity.workload_api))
            whole = spoken(METHODS[0], streams=60)
            connection.sendall(whole[:24] + no_room + whole[24:])
            held.append(connection)
        served(identity)
        assert _rss(identity) < 400 << 20
    finally:
        for connection in held:
            connection.close()
    served(identity)


def _rss(identity: IdentityProcess) -> int:
    assert identity.process is not None
    with open(f"/proc/{identity.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_honest_requests_is_served_no_faster_than_others(identity: IdentityProcess) -> None:
    """One connection asks as fast as it can, sixty streams at a time; another one's single requests stay quick."""
    whole = spoken("/SpiffeWorkloadAPI/FetchJWTSVID", b"\n\1a", streams=60)
    stop = time.monotonic() + 3
    with socket.socket(socket.AF_UNIX) as greedy:
        greedy.connect(str(identity.workload_api))
        greedy.sendall(whole)
        greedy.settimeout(0.01)
        slowest = 0.0
        while time.monotonic() < stop:
            with contextlib.suppress(OSError):
                greedy.recv(1 << 20)
            began = time.monotonic()
            fetch_x509_svid(identity.endpoint)
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.5
