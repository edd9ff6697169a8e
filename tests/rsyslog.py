"""A private rsyslog that takes RFC 5424 over mutual TLS (GnuTLS) and writes each message as a line."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sink_certificates import Pki, make_pki
from tests.support import eventually, free_port, short_directory

_CONFIG = """\
global(workDirectory="{directory}" maxMessageSize="70k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{directory}/ca.pem" defaultNetstreamDriverCertFile="{directory}/server.pem"
  defaultNetstreamDriverKeyFile="{directory}/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name"
  permittedPeer=["client.example"])
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="line" type="list") {{
  property(name="pri") constant(value=" ") property(name="timereported" dateFormat="rfc3339") constant(value=" ")
  property(name="hostname") constant(value=" ") property(name="app-name") constant(value=" ")
  property(name="procid") constant(value=" ") property(name="msgid") constant(value=" ")
  property(name="structured-data") constant(value=" ") property(name="msg") constant(value="\\n") }}
action(type="omfile" file="{directory}/out.log" template="line" sync="on")
"""


@dataclass
class Rsyslog:
    directory: Path
    port: int
    pki: Pki
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(self.directory / "rsyslog.conf"), "-i", str(self.directory / "pid")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def listens() -> bool:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True

        eventually(listens, within=20)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def lines(self) -> list[str]:
        path = self.directory / "out.log"
        return path.read_text("utf-8").splitlines() if path.exists() else []


@contextlib.contextmanager
def private_rsyslog() -> Iterator[Rsyslog]:
    if shutil.which("rsyslogd") is None:
        pytest.skip("rsyslog is not installed (Debian: rsyslog-gnutls)")
    with short_directory("rs") as directory:
        pki = make_pki(directory, "server", "client", "stranger")
        found = Rsyslog(directory, free_port(), pki)
        (directory / "rsyslog.conf").write_text(_CONFIG.format(directory=directory, port=found.port))
        try:
            found.start()
            yield found
        finally:
            found.stop(signal.SIGKILL)
