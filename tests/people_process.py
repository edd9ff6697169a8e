"""The real people process on unix sockets of a private directory, started as the supervisor starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.support_audit import journaled

from rempart.servers.spawn import Launch, launcher, memory_file

GATEWAY = "spiffe://bank.example/rempart/gateway"
USERS = "spiffe://bank.example/users"
SOCKETS = ("api", "admin", "metrics")


@dataclass
class PeopleProcess:
    """`directory` must have a short path. The sockets outlive the process, so clients wait while it restarts."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.settings = {"issuer": "https://localhost:8443/auth", "audience": "bank.example", **self.settings}
        self._listening = {}
        admin = self.directory / "run" / "admin"
        admin.mkdir(parents=True)
        for name in SOCKETS:
            self._listening[name] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listening[name].bind(str(self.path(name)))
            self._listening[name].listen(512)

    def path(self, name: str) -> Path:
        run = self.directory / "run"
        return run / "admin" / "people.sock" if name == "admin" else run / f"{name}.sock"

    def start(self) -> None:
        """Returns when the process says that it is ready."""
        document = {
            "name": "people",
            "data_dir": str(self.directory / "data"),
            "journal_dir": str(self.directory / "journal"),
            "run_dir": str(self.directory / "run"),
            "settings": self.settings,
            "keys": {"people": (b"p" * 32).hex()},
        }
        ready, ready_writer = os.pipe()
        boot = memory_file("boot", json.dumps(document).encode())
        fds = (*(self._listening[name].fileno() for name in SOCKETS), boot, ready_writer)
        env = {
            "PATH": os.environ["PATH"],
            "LISTEN_FDS": str(len(SOCKETS)),
            "LISTEN_FDNAMES": ",".join(SOCKETS),
            "REMPART_BOOT_FD": str(3 + len(SOCKETS)),
            "REMPART_READY_FD": str(4 + len(SOCKETS)),
        }
        spec = Launch(argv=(sys.executable, "-m", "rempart.servers.people"), env=env, fds=fds, parent=os.getpid())
        launch = memory_file("launch", spec.document())
        with (self.directory / "people.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher(), str(launch)], env={}, cwd="/", stderr=log, stdout=log, pass_fds=(launch, *fds)
            )
        for fd in (boot, launch, ready_writer):
            os.close(fd)
        with os.fdopen(ready, "rb") as pipe:
            assert pipe.read(1) == b"1", self.log()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """The exit status, negative for a signal."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        status = self.process.wait(10)
        self.process = None
        return status

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for listening in self._listening.values():
            listening.close()

    def client(self, name: str = "api", **headers: str) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.path(name))),
            base_url="http://people",
            headers=headers,
            timeout=30,
        )

    def log(self) -> str:
        return (self.directory / "people.log").read_text()

    def journal(self) -> list[dict[str, Any]]:
        """Every event so far, as Rempart's own fields say it."""
        return [json.loads(payload)["unmapped"]["rempart"] for payload in journaled(self.directory / "journal")]
