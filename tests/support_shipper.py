"""Start a real shipper process as the supervisor does, beside a sequencer under test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from tests.support_sequencer import _LAUNCHER, _above

_CODE = _LAUNCHER + "os.execv(sys.executable, [sys.executable, '-m', 'rempart.servers.shipper'])"


class ShipperUnderTest:
    """`state` is that of the sequencer; `sinks` as `wiring.audit_sinks.SinkSettings`."""

    def __init__(self, state: Path, sinks: list[dict[str, Any]]) -> None:
        self.state, self.sinks = state, sinks
        self.data = state / "data" / "shipper"
        self.process: subprocess.Popen[bytes] | None = None
        self._sockets: dict[str, socket.socket] = {}
        for name, path in {"admin": "run/admin/shipper.sock", "metrics": "run/shipper-metrics.sock"}.items():
            (state / path).unlink(missing_ok=True)
            self._sockets[name] = socket.socket(socket.AF_UNIX)
            self._sockets[name].bind(str(state / path))
            self._sockets[name].listen(16)

    def start(self) -> None:
        settings = {
            "sinks": self.sinks,
            "feed_socket": str(self.state / "run" / "feed.sock"),
            "host_name": "bank.example",
        }
        document = {
            "name": "shipper",
            "data_dir": str(self.data),
            "journal_dir": str(self.state / "journals" / "shipper"),
            "run_dir": str(self.state / "run"),
            "settings": settings,
            "keys": {},
        }
        memory = os.memfd_create("boot")
        os.write(memory, json.dumps(document).encode())
        ready_read, ready_write = os.pipe()
        fds = [sock.fileno() for sock in self._sockets.values()]
        high = {fd: _above(fd) for fd in (memory, ready_write, *fds)}
        environment = {
            **os.environ,
            "REMPART_BOOT_FD": str(high[memory]),
            "REMPART_READY_FD": str(high[ready_write]),
            "LISTEN_FDS": str(len(fds)),
            "LISTEN_FDNAMES": ",".join(self._sockets),
        }
        with open(self.state / "shipper.log", "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _CODE, ",".join(str(high[fd]) for fd in fds)],
                env=environment,
                pass_fds=tuple(high.values()),
                stdout=output,
                stderr=output,
            )
        for fd in (memory, ready_write, *high.values()):
            os.close(fd)
        with os.fdopen(ready_read, "rb") as ready:
            assert ready.read(1) == b"1", (self.state / "shipper.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        return code

    def report(self, name: str) -> dict[str, Any]:
        transport = httpx.HTTPTransport(uds=str(self.state / "run" / "admin" / "shipper.sock"))
        with httpx.Client(transport=transport, base_url="http://shipper", timeout=5) as client:
            found: dict[str, Any] = next(s for s in client.get("/sinks").json()["sinks"] if s["name"] == name)
            return found

    def __enter__(self) -> ShipperUnderTest:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)
        for listening in self._sockets.values():
            listening.close()
