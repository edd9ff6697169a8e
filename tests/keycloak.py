"""A real Keycloak: fetched by Maven, started in a private directory, administered over HTTP, exported by itself."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tests.support import free_port

VERSION = "26.4.0"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_START_WITHIN = 240.0  # seconds; it compiles itself first


class NoKeycloak(Exception):
    """Why it can't be had here."""


@contextlib.contextmanager
def unpacked() -> Iterator[Keycloak]:
    """A fresh one, not started. Maven keeps the archive (160 MB) in its repository. Raises NoKeycloak."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise NoKeycloak("Maven or Java is not installed")
    where = Path(tempfile.mkdtemp(prefix="kc", dir="/tmp"))
    try:
        artifact = f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
        command = ["mvn", "-q", "-B", _COPY, artifact, f"-DoutputDirectory={where}"]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if fetched.returncode:
            raise NoKeycloak(f"Maven can't fetch it here: {fetched.stdout.strip()[-300:]}")
        archive = where / f"keycloak-quarkus-dist-{VERSION}.zip"
        with zipfile.ZipFile(archive) as content:
            content.extractall(where)
        archive.unlink()
        home = where / f"keycloak-{VERSION}"
        (home / "bin" / "kc.sh").chmod(0o755)
        yield Keycloak(home)
    finally:
        shutil.rmtree(where, ignore_errors=True)


@dataclass
class Keycloak:
    home: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[httpx.Client]:
        """Development mode, data in its own directory; the answer speaks as its administrator, for some minutes."""
        environment = os.environ | {
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self.password,
        }
        command = [str(self.home / "bin" / "kc.sh"), "start-dev", "--http-host=127.0.0.1", f"--http-port={self.port}"]
        log = self.home / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            with httpx.Client(base_url=self.url, timeout=60) as http:
                http.headers["authorization"] = f"Bearer {self._administrator(http, process, log)}"
                yield http
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def _administrator(self, http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> str:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self.password}
        deadline = time.monotonic() + _START_WITHIN
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                answer = http.post("/realms/master/protocol/openid-connect/token", data=form)
                if answer.status_code == 200:
                    return str(answer.json()["access_token"])
            time.sleep(0.5)
        raise AssertionError(log.read_text()[-3000:])

    def export(self, realm: str, *options: str) -> None:
        """`kc.sh export`; it must not be running, since both want its database."""
        command = [str(self.home / "bin" / "kc.sh"), "export", "--realm", realm, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
