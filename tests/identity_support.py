"""A real identity process with a small supervisor beside it, for tests of the Workload API and SDS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.support import short_directory

from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import EventType, Severity
from rempart.servers.disk_upstream import DiskUpstream
from rempart.servers.keys_at_start import ensure_roots
from rempart.servers.root_keeper import RootKeeper
from rempart.servers.root_store import RootStore
from rempart.workloads import authority
from rempart.workloads.process import start_time_of
from rempart.workloads.root_rotation import NewRoot

TRUST_DOMAIN = "bank.example"


async def _make(trust_domain: str, key: bytes, kind: str) -> NewRoot:
    return authority.new_root(kind, trust_domain, key)


async def _tell_nobody(kind: EventType, reason: str, severity: Severity, details: dict[str, object]) -> None: ...


@dataclass
class SmallSupervisor:
    """Answers `run/supervisor.sock` as the real one does; `supervised` maps a pid to (kind, name)."""

    path: Path
    roots: RootKeeper
    key: bytes
    issuing_ttl: float
    names: list[str]
    trust_domain: str = TRUST_DOMAIN
    supervised: dict[int, tuple[str, str]] = field(default_factory=dict)
    lie_start_time: int | None = None
    refuse: bool = False
    before_answer: Callable[[int], None] | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.path))
        self.listening.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # ValueError: who asked went away before it had said what
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rwb") as file:
            question = json.loads(file.readline())
            file.write(json.dumps(self.reply(question)).encode() + b"\n")
            file.flush()

    def rotate_root(self, kind: str, *, overlap: float) -> None:
        with self.turn:
            asyncio.run(self.roots.rotate(kind, overlap=overlap, operator="uid:0"))

    def compromise_root(self, kind: str, *, grace: float) -> None:
        """Only begins: like a planned rotation it goes on by itself."""

        async def begin() -> None:
            phases = self.roots.replace_compromised(kind, grace=grace, operator="uid:0")
            await anext(phases)

        with self.turn:
            asyncio.run(begin())

    def reply(self, question: dict[str, Any]) -> dict[str, Any]:
        if self.refuse:
            return {"error": "refused", "name": None}
        if "who" in question:
            if self.before_answer is not None:
                self.before_answer(question["who"])
            kind, name = self.supervised.get(question["who"], ("", ""))
            if not name:
                return {"name": None}
            start_time = self.lie_start_time or start_time_of(question["who"])
            return {"name": name, "kind": kind, "spiffe_id": "", "start_time": start_time}
        if "roots" in question:
            with self.turn:
                with contextlib.suppress(Unavailable):  # upstream files that are being replaced
                    asyncio.run(self.roots.step(question["roots"]))
                return asyncio.run(self.roots.told(question["roots"], question["published"]))
        kind = question["sign"]
        with self.turn:
            signer = asyncio.run(self.roots.signer(kind))
        job = {
            "do": "sign",
            "kind": kind,
            "trust_domain": self.trust_domain,
            "root": signer.certificate,
            "sealed": base64.b64encode(signer.sealed).decode(),
            "key": base64.b64encode(self.key).decode(),
            "csr": question["csr"],
            "ttl": self.issuing_ttl,
            "names": self.names,
        }
        if signer.upstream_key:
            job = {**job, "upstream_key": signer.upstream_key, "sealed": "", "key": ""}
        ran = subprocess.run(
            [sys.executable, "-m", "rempart.servers.root_signer"], input=json.dumps(job).encode(), capture_output=True
        )
        if ran.returncode:
            return {"error": ran.stderr.decode()}
        return {"certificate": ran.stdout.decode() + signer.chain}


@dataclass
class IdentityProcess:
    directory: Path
    supervisor: SmallSupervisor
    settings: dict[str, Any]
    sockets: dict[str, socket.socket]
    process: subprocess.Popen[bytes] | None = None

    @property
    def workload_api(self) -> Path:
        return self.directory / "run" / "workload.sock"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.workload_api}"

    def start(self) -> None:
        """As the supervisor does: sockets from descriptor 3 on, the boot document in a memfd, a readiness pipe."""
        names = list(self.sockets)
        document = {
            "name": "identity",
            "data_dir": str(self.directory / "data"),
            "journal_dir": str(self.directory / "journal"),
            "run_dir": str(self.directory / "run"),
            "settings": self.settings,
            "keys": {"identity": (b"i" * 32).hex()},
        }
        memory = os.memfd_create("boot")
        os.write(memory, json.dumps(document).encode())
        ready, ready_writer = os.pipe()
        wanted = [self.sockets[name].fileno() for name in names]
        targets = [*range(3, 3 + len(wanted)), 3 + len(wanted), 4 + len(wanted)]
        # Python 3.11 can't renumber descriptors for a child, so a shell does: high copies first, then into place.
        sources = [*wanted, memory, ready_writer]
        high = [os.dup(source) for source in sources]
        high = [self._high(number) for number in high]
        redirect = " ".join(f"{target}<&{number}" for target, number in zip(targets, high, strict=True))
        environment = {
            **os.environ,
            "LISTEN_FDS": str(len(names)),
            "LISTEN_FDNAMES": ",".join(names),
            "REMPART_BOOT_FD": str(3 + len(names)),
            "REMPART_READY_FD": str(4 + len(names)),
        }
        with (self.directory / "identity.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {sys.executable} -m rempart.servers.identity {redirect}"],
                pass_fds=high,
                env=environment,
                stderr=log,
            )
        for number in (*high, memory, ready_writer):
            os.close(number)
        try:
            if os.read(ready, 1) != b"1":
                self.process.wait(10)
                raise AssertionError((self.directory / "identity.log").read_text())
        finally:
            os.close(ready)

    @staticmethod
    def _high(number: int) -> int:
        import fcntl

        copy = fcntl.fcntl(number, fcntl.F_DUPFD, 50)
        os.close(number)
        return copy

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process is None or self.process.poll() is not None:
            return -1
        self.process.send_signal(how)
        return self.process.wait(10)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        import httpx

        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.directory / "run" / "admin" / "identity.sock"))
        ) as client:
            return client.request(method, f"http://identity{path}", json=body)

    def metrics(self) -> str:
        import httpx

        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.directory / "run" / "metrics.sock"))) as client:
            return client.get("http://identity/metrics").text

    def events(self) -> list[dict[str, Any]]:
        """Everything journaled so far, read as a stranger would: JSON objects in the segments."""
        found = []
        for segment in sorted((self.directory / "journal").rglob("*")):
            if segment.is_file():
                data = segment.read_bytes().decode("latin-1")
                start = data.find('{"')
                while start >= 0:
                    try:
                        value, end = json.JSONDecoder().raw_decode(data, start)
                    except ValueError:
                        end = start + 1
                    else:
                        found.append(value)
                    start = data.find('{"', end)
        return found


@contextlib.contextmanager
def running_identity(
    entries: list[dict[str, Any]] | None = None,
    *,
    svid_ttl: int = 3600,
    issuing_ttl: int = 86400,
    upstream: DiskUpstream | None = None,
    trust_domain: str = TRUST_DOMAIN,
    agents: tuple[str, int] | None = None,
    settings_agents: dict[str, Any] | None = None,
    bundle: tuple[str, int] | None = None,
    **more: Any,
) -> Iterator[IdentityProcess]:
    """By default this process's uid has the identity `/test`. `agents`: where it listens for agents of other hosts,
    and `settings_agents` how they may join; `bundle`: for partners. `more`: settings of identity."""
    with short_directory("rpid") as directory:
        for name in ("data", "journal", "run", "run/admin", "secrets", "tls", "trust"):
            (directory / name).mkdir(mode=0o700)
        key = os.urandom(32)
        store = RootStore(directory, upstream)
        ensure_roots(store, trust_domain, key)
        lives = dict.fromkeys(authority.KINDS, float(issuing_ttl))
        roots = RootKeeper(store, partial(_make, trust_domain, key), lives, _tell_nobody, SystemClock(), margin=1.0)
        names = ["localhost", "127.0.0.1"]
        supervisor = SmallSupervisor(
            directory / "run" / "supervisor.sock", roots, key, issuing_ttl, names, trust_domain
        )
        supervisor.start()
        sockets = {}
        for name in ("workload", "admin", "metrics"):
            sockets[name] = socket.socket(socket.AF_UNIX)
            place = "admin/identity.sock" if name == "admin" else f"{name}.sock"
            sockets[name].bind(str(directory / "run" / place))
            sockets[name].listen(1024)
        if agents is not None:
            sockets["agents"] = socket.create_server(agents)
        if bundle is not None:
            sockets["bundle"] = socket.create_server(bundle)
        settings = {
            "trust_domain": trust_domain,
            "spiffe_root_pem": roots.current("spiffe").certificate,
            "web_root_pem": roots.current("web").certificate,
            "web_names": names,
            "gateway_spiffe_id": f"spiffe://{trust_domain}/rempart/gateway",
            "entries": entries
            if entries is not None
            else [{"spiffe_id": f"spiffe://{trust_domain}/test", "selectors": [f"unix:uid:{os.getuid()}"]}],
            "svid_ttl": svid_ttl,
            "issuing_ttl": issuing_ttl,
            "operator_uid": os.getuid(),
            "agents": settings_agents or {},
            **more,
        }
        identity = IdentityProcess(directory, supervisor, settings, sockets)
        identity.start()
        try:
            yield identity
        finally:
            identity.stop()
            supervisor.listening.close()
            for listening in sockets.values():
                listening.close()
