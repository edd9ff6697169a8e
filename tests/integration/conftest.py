"""The real system, started once for everybody: `bank` is the example application, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import short_directory

ROOT = Path(__file__).resolve().parents[2]
BANK = ROOT / "examples" / "bank"
START_WITHIN = 90.0


def rempart(
    *arguments: str, state: Path, timeout: float = START_WITHIN, env: dict[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the `rempart` command; never raises for its exit code. `more` goes to `subprocess.run` (user=…, cwd=…)."""
    command = [str(Path(sys.prefix) / "bin" / "rempart"), *arguments]
    environment = {**os.environ, "REMPART_STATE": str(state), "NO_COLOR": "1", **(env or {})}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False, **more
    )


@dataclass(frozen=True)
class Running:
    """A running system. `status` is as it was when it became ready; `now()` asks again."""

    state: Path
    status: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.status["gateway"]["url"])

    @property
    def ca(self) -> str:
        return str(self.status["gateway"]["ca"])

    def now(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return document

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return rempart(*arguments, state=self.state, **more)

    def pid(self, process: str) -> int | None:
        return next((one["pid"] for one in self.now()["processes"] if one["name"] == process), None)

    def mtls(self, service: str) -> str:
        return next(str(one["mtls"]) for one in self.status["services"] if one["name"] == service)

    def account(self, role: str, nth: int = 0) -> dict[str, Any]:
        accounts: list[dict[str, Any]] = json.loads(Path(self.status["demo_accounts"]).read_text())
        return [one for one in accounts if one["role"] == role][nth]

    def token(self, role: str, nth: int = 0) -> str:
        import ssl

        import httpx

        account = self.account(role, nth)
        body = {"email": account["email"], "password": account["password"]}
        context = ssl.create_default_context(cafile=self.ca)
        answer = httpx.post(f"{self.url}/login", json=body, verify=context, timeout=10)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@contextlib.contextmanager
def running(app: Path, *options: str, state: Path | None = None, **more: Any) -> Iterator[Running]:
    """Start `app` detached, on free ports; stop it afterwards and show its logs when that didn't work."""
    with contextlib.ExitStack() as stack:
        where = state or stack.enter_context(short_directory()) / "s"
        command = ("up", str(app), "--detach", "--json", "--listen", "127.0.0.1:0", *options)
        done = rempart(*command, state=where, **more)
        assert done.returncode == 0, done.stderr
        try:
            yield Running(where, json.loads(done.stdout))
        finally:
            rempart("down", state=where, timeout=60, **more)


@pytest.fixture(scope="session")
def bank() -> Iterator[Running]:
    with running(BANK) as system:
        yield system


TINY = """
[app]
name = "tiny"
trust_domain = "tiny.example"

[[service]]
name = "hello"
command = ["python", "hello.py"]
socket = "app.sock"
routes = ["/hello"]

[[client]]
name = "agent"
calls = ["hello"]
"""

HELLO = """
import http.server, json, os, socketserver

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"headers": dict(self.headers), "uid": os.getuid(), "groups": os.getgroups()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "-"

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server(os.environ["REMPART_LISTEN"].removeprefix("unix:"), Handler).serve_forever()
"""


def write_tiny(directory: Path, settings: str = TINY) -> Path:
    """A service of a few lines, in any directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rempart.toml").write_text(settings)
    (directory / "hello.py").write_text(HELLO)
    return directory


@pytest.fixture(scope="session")
def tiny() -> Iterator[Running]:
    """A system around one small service, shared by tests that don't change it."""
    with short_directory("rt") as directory, running(write_tiny(directory / "app")) as system:
        yield system
