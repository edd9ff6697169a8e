"""Start a real sequencer process as the supervisor does, in a private state directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

KEY = bytes(range(32))
ORIGIN = "bank.example/rempart"
_LAUNCHER = "import os,sys\nfor n, fd in enumerate(map(int, sys.argv[1].split(','))): os.dup2(fd, 3 + n)\n"


class SequencerUnderTest:
    """`state` is laid out as docs/design.md says."""

    def __init__(self, state: Path, *, services: tuple[str, ...] = ("wallet",), **settings: Any) -> None:
        self.state = state
        self._settings = settings
        self.journals = state / "journals"
        self.data = state / "data" / "sequencer"
        self.process: subprocess.Popen[bytes] | None = None
        self.access_log: int = -1
        for path in (state / "run" / "admin", state / "run" / "events", self.journals, self.data):
            path.mkdir(parents=True, exist_ok=True)
        paths = {
            "admin": "admin/sequencer.sock",
            "audit": "audit.sock",
            "metrics": "metrics.sock",
            "feed:shipper": "feed.sock",
        }
        paths |= {f"events:{name}": f"events/{name}.sock" for name in services}
        self.paths = {name: state / "run" / path for name, path in paths.items()}
        self._sockets: dict[str, socket.socket] = {}
        for name, path in self.paths.items():
            path.unlink(missing_ok=True)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(path))
            listening.listen(64)
            self._sockets[name] = listening

    def start(self) -> None:
        settings: dict[str, Any] = {"origin": ORIGIN, "journals_dir": str(self.journals), **self._settings}
        log_read, self.access_log = os.pipe()
        settings["access_logs"] = {"gateway": log_read}
        document = {
            "name": "sequencer",
            "data_dir": str(self.data),
            "journal_dir": str(self.journals / "sequencer"),
            "run_dir": str(self.state / "run"),
            "settings": settings,
            "keys": {"sequencer": KEY.hex()},
        }
        memory = os.memfd_create("boot")
        os.write(memory, json.dumps(document).encode())
        ready_read, ready_write = os.pipe()
        # The sockets must be 3, 4, … in the child: a tiny launcher moves them there, and what they replace upwards.
        fds = [sock.fileno() for sock in self._sockets.values()]
        high = {fd: _above(fd) for fd in (memory, ready_write, log_read, *fds)}
        settings["access_logs"] = {"gateway": high[log_read]}
        os.lseek(high[memory], 0, os.SEEK_SET)
        os.ftruncate(high[memory], 0)
        os.write(high[memory], json.dumps(document).encode())
        environment = {
            **os.environ,
            "REMPART_BOOT_FD": str(high[memory]),
            "REMPART_READY_FD": str(high[ready_write]),
            "LISTEN_FDS": str(len(fds)),
            "LISTEN_FDNAMES": ",".join(self._sockets),
        }
        code = _LAUNCHER + "os.execv(sys.executable, [sys.executable, '-m', 'rempart.servers.sequencer'])"
        moved = ",".join(str(high[fd]) for fd in fds)
        with open(self.state / "sequencer.log", "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, moved],
                env=environment,
                pass_fds=tuple(high.values()),
                stdout=output,
                stderr=output,
            )
        for fd in (memory, ready_write, log_read, *high.values()):
            os.close(fd)
        with os.fdopen(ready_read, "rb") as ready:
            assert ready.read(1) == b"1", (self.state / "sequencer.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        os.close(self.access_log)
        return code

    def client(self, name: str = "admin") -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.paths[name])), base_url="http://sequencer", timeout=10
        )

    def close(self) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)
        for listening in self._sockets.values():
            listening.close()


def _above(fd: int) -> int:
    """A copy of `fd` numbered 100 or more."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, 100)


@contextlib.contextmanager
def running_sequencer(state: Path, **settings: Any) -> Iterator[SequencerUnderTest]:
    under_test = SequencerUnderTest(state, **settings)
    try:
        under_test.start()
        yield under_test
    finally:
        under_test.close()


@contextlib.contextmanager
def over_tcp(sequencer: SequencerUnderTest) -> Iterator[str]:
    """The sequencer's reading socket at an HTTP address, for a client that knows no unix sockets."""

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with sequencer.client("audit") as client:
                answer = client.get(self.path)
            self.send_response(answer.status_code)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Not into the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
