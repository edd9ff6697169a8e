"""A real PDP process, started the way the supervisor does, and a client that speaks ext_authz to it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import httpx
from tests.support_audit import journaled

TRUST_DOMAIN = "bank.test"
ISSUER = "https://localhost:8443/auth"
GATEWAY = f"spiffe://{TRUST_DOMAIN}/rempart/gateway"
SERVICES = {
    "wallet": {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/wallet", "routes": ["/wallet"], "calls": ["people"]},
    "payment": {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/payment", "routes": ["/payments"], "calls": ["wallet"]},
    "people": {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/rempart/people", "routes": ["/login", "/auth"], "calls": []},
    "observer": {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/rempart/observer", "routes": ["/logs"], "calls": []},
}
SOCKETS = ("pep:gateway", "pep:wallet", "admin", "policies", "metrics")


def claims_header(**changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": TRUST_DOMAIN,
        "sub": "acc_1",
        "role": "user",
        "scope": "session",
        "iat": now,
        "exp": now + 7200,  # made when tests are collected, used when their turn comes
        **changes,
    }
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


class PdpProcess:
    def __init__(self, base: Path, *, policy_dir: Path | None = None, **settings: Any) -> None:
        self.base = base
        self.settings: dict[str, Any] = {
            "trust_domain": TRUST_DOMAIN,
            "issuer": ISSUER,
            "requests_per_minute": 3000,
            "audience": TRUST_DOMAIN,
            "points": [
                {"name": "gateway", "kind": "gateway"},
                {"name": "wallet", "kind": "sidecar", "service": "wallet"},
            ],
            "routes": {route: name for name, s in SERVICES.items() for route in s["routes"]},
            "data": {"trust_domain": TRUST_DOMAIN, "services": SERVICES, "gateway": GATEWAY},
            "policy_dir": str(policy_dir) if policy_dir else None,
            **settings,
        }
        self.listening: dict[str, socket.socket] = {}
        for name in SOCKETS:
            path = self.path(name)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen(128)
            self.listening[name] = listener
        self.process: subprocess.Popen[bytes] | None = None

    def path(self, name: str) -> Path:
        return self.base / (name.replace(":", "-") + ".sock")

    def start(self, wait: float = 20.0) -> bool:
        """True once it is ready, False when it ended first."""
        document = {
            "name": "pdp",
            "data_dir": str(self.base / "data"),
            "journal_dir": str(self.base / "journal"),
            "run_dir": str(self.base),
            "settings": self.settings,
            "keys": {},
        }
        memory = os.memfd_create("boot")
        os.write(memory, json.dumps(document).encode())
        ready_r, ready_w = os.pipe()
        fds = [self.listening[name].fileno() for name in SOCKETS]
        base = 200  # out of the way of what is copied down to 3, 4, …
        wanted = [*fds, memory, ready_w]

        def place() -> None:
            for index, fd in enumerate(wanted):
                os.dup2(fd, base + index)
            for index in range(len(wanted)):
                os.dup2(base + index, 3 + index)
                os.close(base + index)

        environment = {
            **os.environ,
            "LISTEN_FDS": str(len(SOCKETS)),
            "LISTEN_FDNAMES": ",".join(SOCKETS),
            "REMPART_BOOT_FD": str(3 + len(SOCKETS)),
            "REMPART_READY_FD": str(4 + len(SOCKETS)),
        }
        with (self.base / "stderr").open("ab") as errors:
            self.process = self._spawn(environment, place, len(wanted), errors)
        os.close(ready_w)
        os.close(memory)
        try:
            os.set_blocking(ready_r, False)
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline:
                try:
                    return bool(os.read(ready_r, 1))  # nothing: closed without a word
                except BlockingIOError:
                    if self.process.poll() is not None:
                        return False
                    time.sleep(0.01)
            return False
        finally:
            os.close(ready_r)

    def _spawn(
        self, environment: dict[str, str], place: Callable[[], None], count: int, errors: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "rempart.servers.pdp"],
            env=environment,
            preexec_fn=place,
            pass_fds=range(3, 3 + count),
            stderr=errors,
        )

    def client(self, name: str) -> httpx.Client:
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.path(name))), base_url="http://pdp", timeout=10)

    def ask(self, point: str, method: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        with self.client(f"pep:{point}") as client:
            return client.request(method, "/authz" + path, headers={"x-rempart-ip": "10.0.0.9", **(headers or {})})

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(10)

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        for listener in self.listening.values():
            listener.close()

    def journaled(self) -> list[dict[str, Any]]:
        """Rempart's own part of every event on disk."""
        return [json.loads(payload)["unmapped"]["rempart"] for payload in journaled(self.base / "journal")]

    def errors(self) -> str:
        return (self.base / "stderr").read_text()
