"""What benchmarks of decisions share: the 12-rule policy in the words of our input, a PDP process, a load generator.

The policy of `data/authz.rego` speaks of another input document. Only the names are changed to ours, rule by rule, and
whoever is compared evaluates the changed policy on the very input that our PDP builds. Clock and volume come as claims
(the policy allows office hours and 120 requests a minute only).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess  # nosec B404 - starts this interpreter
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.running import given_back

DATA = Path(__file__).parent / "data"
ENTRYPOINT = "data.gate.authz.decision"
PEER = "spiffe://prod.example/ns/n7/sa/svc17"
TARGET = "/api/orders/42/items?client_version=2.4.1"
_NAMES = {
    "input.source.spiffe_id": "input.spiffe_id",
    "input.source.ip": "input.context.ip",
    "input.destination.service": "input.service",
    "input.user.": "input.jwt.",
    "input.now_ns": "input.jwt.now_ns",
    "input.usage.last_minute": "input.jwt.last_minute",
    "input.request.client_version": "input.query.client_version",
    "input.request.": "input.",
}


def policy_text() -> str:
    text = (DATA / "authz.rego").read_text()
    for theirs, ours in _NAMES.items():
        text = text.replace(theirs, ours)
    return text


def claims() -> dict[str, Any]:
    given = json.loads((DATA / "input.json").read_text())["input"]
    now = int(time.time())
    return {
        "iss": "https://bench.example",
        "aud": "prod.example",
        "iat": now,
        "exp": now + 3600,
        "scope": "session",
        **given["user"],
        "now_ns": given["now_ns"],
        "last_minute": given["usage"]["last_minute"],
    }


def headers() -> dict[str, str]:
    """What Envoy would send along with a question."""
    encoded = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
    return {
        "x-rempart-claims": encoded,
        "x-rempart-peer": PEER,
        "x-rempart-ip": "10.1.2.3",
        "x-request-id": "0b8f1c3e-7d0a-4f7e-9f0e-1c2d3e4f5a6b",
        "user-agent": "x/1",
    }


def policy_input() -> dict[str, Any]:
    """The document that our PDP builds of TARGET and headers()."""
    path, _, _ = TARGET.partition("?")
    return {
        "pep": "sidecar",
        "service": "orders-api",
        "method": "GET",
        "path": path,
        "segments": path.split("/")[1:],
        "query": {"client_version": "2.4.1"},
        "jwt": claims(),
        "spiffe_id": PEER,
        "request_id": headers()["x-request-id"],
        "context": {
            "time": "2026-01-01T00:00:00.000Z",
            "now_ns": time.time_ns(),
            "ip": "10.1.2.3",
            "volume": {"last_minute": 17},
            "origin": None,
            "token_age": 0,
            "user_agent": "x/1",
        },
    }


@contextmanager
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))  # nosec B108 - mkdtemp makes it private; sockets need a short path
    try:
        (path / "policy").mkdir()
        (path / "policy" / "authz.rego").write_text(policy_text())
        shutil.copy(DATA / "data.json", path / "policy" / "data.json")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def pdp(base: Path, cpu: int | None) -> Iterator[tuple[Path, int]]:
    """A PDP process with that policy; yields its socket and its pid."""
    socket_path = base / "pdp.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.decisions", str(base), str(-1 if cpu is None else cpu)]
    )  # nosec B603 - ourselves
    try:
        wait_for(base / "ready", process)
        with given_back(base / "journal"):
            yield socket_path, process.pid
    finally:
        process.terminate()
        process.wait(10)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(path: Path, process: subprocess.Popen[Any], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{path.name} did not appear")
        time.sleep(0.02)


def serve(base: Path, cpu: int) -> None:
    import socket

    import uvloop

    from rempart.servers import pdp as server
    from rempart.servers.boot import Boot

    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(base / "pdp.sock"))
    listening.setblocking(False)
    listening.listen(128)
    ready = os.open(base / "ready.part", os.O_WRONLY | os.O_CREAT, 0o600)
    settings = {
        "trust_domain": "prod.example",
        "issuer": "https://bench.example",
        "audience": "prod.example",
        "points": [{"name": "orders-api", "kind": "sidecar", "service": "orders-api"}],
        "routes": {},
        "data": {
            "trust_domain": "prod.example",
            "gateway": "spiffe://prod.example/rempart/gateway",
            "services": {
                "orders-api": {"spiffe_id": "spiffe://prod.example/orders-api", "routes": [], "calls": []},
                "caller": {"spiffe_id": PEER, "routes": [], "calls": ["orders-api"]},
            },
        },
        "policy_dir": str(base / "policy"),
        "entrypoint": ENTRYPOINT,
        "requests_per_minute": 1_000_000_000,
    }

    class Announced(Boot):
        def ready(self) -> None:
            super().ready()
            os.rename(base / "ready.part", base / "ready")

    boot = Announced("pdp", base / "data", base / "journal", base, settings, {}, {"pep:orders-api": listening}, ready)
    uvloop.run(server.serve(boot))


class _Client(asyncio.Protocol):
    """Keeps one question in flight; an answer is known by its `content-length`."""

    def __init__(self, question: bytes, counts: dict[str, int]) -> None:
        self._question, self._counts = question, counts
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport
        transport.write(self._question)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._buffer = b""
        self._counts["ok" if head.startswith(b"HTTP/1.1 200") else "other"] += 1
        if self._transport is not None:
            self._transport.write(self._question)


def load(
    target: str | tuple[str, int], question: bytes, seconds: float, connections: int = 32, cpu: int | None = None
) -> dict[str, float]:
    """`{"ok": answers of 200 per second, "other": of any other, "total": answers}` by a process of its own on `cpu`."""
    document = json.dumps([target, question.decode(), seconds, connections, -1 if cpu is None else cpu])
    done = subprocess.run(  # nosec B603 - ourselves
        [sys.executable, "-m", "benchmarks.decisions"], input=document, text=True, capture_output=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


async def _load(target: str | list[Any], question: bytes, seconds: float, connections: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    counts = {"ok": 0, "other": 0}
    for _ in range(connections):
        if isinstance(target, str):
            await loop.create_unix_connection(lambda: _Client(question, counts), target)
        else:
            await loop.create_connection(lambda: _Client(question, counts), target[0], int(target[1]))
    await asyncio.sleep(0.3)  # warm
    before, began = dict(counts), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - began
    rates = {name: (counts[name] - before[name]) / elapsed for name in counts}
    return {**rates, "total": float(sum(counts.values()))}


def question() -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers().items())
    return f"GET /authz{TARGET} HTTP/1.1\r\nhost: orders\r\n{lines}content-length: 0\r\n\r\n".encode()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        serve(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        import uvloop

        where, text, duration, count, core = json.load(sys.stdin)
        if core >= 0:
            os.sched_setaffinity(0, {core})
        print(json.dumps(uvloop.run(_load(where, text.encode(), duration, count))))
