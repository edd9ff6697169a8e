"""`rempart svid … --write --follow`: files that stay fresh, and curl and openssl, which only read files."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually

from rempart.sdk.tls import TlsIdentity

ME = f"spiffe://{TRUST_DOMAIN}/files"
REMPART = [sys.executable, "-c", "from rempart.cli.main import main; main()"]


@pytest.fixture
def identity() -> Iterator[IdentityProcess]:
    entry = {"spiffe_id": ME, "selectors": [f"unix:uid:{os.getuid()}"], "dns_names": ["files.internal"]}
    with running_identity([], svid_ttl=4) as process:
        entry["ttl"] = {"x509": 4, "jwt": 4}  # type: ignore[assignment]  # a dict of what YAML can say
        assert process.admin("POST", "/entries", {"entries": [entry]}).json()["created"]
        yield process


@contextlib.contextmanager
def following(identity: IdentityProcess, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*REMPART, "svid", *arguments, "--follow", "--state", str(identity.directory)]
    log = (identity.directory / "follow.log").open("a")
    with log, subprocess.Popen(command, stderr=log, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(10)


@contextlib.contextmanager
def https(here: TlsIdentity) -> Iterator[int]:
    """A server that says which SPIFFE ID called; its port."""
    context = here.server_context({ME})
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(4096)
                    tls.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def test_files_are_renewed_and_whoever_reads_them_is_told(identity: IdentityProcess, tmp_path: Path) -> None:
    out, told, pid_file = tmp_path / "out", tmp_path / "told", tmp_path / "pid"
    reader = subprocess.Popen(["sh", "-c", f"trap 'echo usr1 >> {told}' USR1; while :; do sleep 0.05; done"])
    pid_file.write_text(f"{reader.pid}\n")
    command = f"cp {out}/svid.pem {tmp_path}/copied.pem"
    try:
        with (
            following(
                identity,
                "x509",
                "--write",
                str(out),
                "--exec",
                command,
                "--signal",
                "usr1",
                "--pid-file",
                str(pid_file),
            ) as process,
            TlsIdentity.in_background(identity.endpoint) as here,
            https(here) as port,
        ):
            seen: set[str] = set()

            def renewed() -> bool:
                with contextlib.suppress(OSError):
                    seen.add((tmp_path / "copied.pem").read_text())
                return len(seen) >= 3

            curl = [
                *("curl", "-sS", "--max-time", "5", "--resolve", f"files.internal:{port}:127.0.0.1"),
                *("--cert", str(out / "combined.pem"), "--cacert", str(out / "bundle.pem")),
                f"https://files.internal:{port}/",
            ]
            eventually(lambda: (out / "combined.pem").exists(), within=10)
            asked = [subprocess.run(curl, capture_output=True, text=True)]
            eventually(renewed, within=20)
            asked.append(subprocess.run(curl, capture_output=True, text=True))
            assert [(one.returncode, one.stdout) for one in asked] == [(0, "hello")] * 2, asked
            chain, bundle = str(out / "svid.pem"), str(out / "bundle.pem")
            verify = ["openssl", "verify", "-x509_strict", "-CAfile", bundle, "-untrusted", chain, chain]
            assert subprocess.run(verify, capture_output=True).returncode == 0
            eventually(lambda: told.exists() and len(told.read_text().split()) >= 2, within=5)
            assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
            assert not [path for path in out.iterdir() if path.name.startswith(".")]
            process.terminate()
            assert process.wait(10) == 0
    finally:
        reader.kill()
        reader.wait()


def test_while_identity_is_away_the_files_stay_and_then_are_renewed(identity: IdentityProcess, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with following(identity, "x509", "--write", str(out)) as process:
        eventually(lambda: (out / "combined.pem").exists(), within=10)
        identity.stop(signal.SIGKILL)
        log = identity.directory / "follow.log"
        eventually(lambda: "workload_api_unreachable" in log.read_text(), within=10)
        before = (out / "svid.pem").read_text()
        identity.start()
        eventually(lambda: (out / "svid.pem").read_text() != before, within=15)
        assert process.poll() is None


def test_a_jwt_svid_is_kept_fresh_too(identity: IdentityProcess, tmp_path: Path) -> None:
    file = tmp_path / "private" / "token"
    with following(identity, "jwt", "--audience", "reports", "--write", str(file)):
        tokens: set[str] = set()

        def renewed() -> bool:
            with contextlib.suppress(OSError):
                tokens.add(file.read_text())
            return len(tokens) >= 3

        eventually(renewed, within=20)
    for token in tokens:
        part = token.split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["aud"] == "reports"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        ["x509", "--follow"],
        ["x509", "--write", "OUT", "--exec", "true"],
        ["x509", "--write", "OUT", "--follow", "--signal", "HUP"],
        ["x509", "--write", "OUT", "--follow", "--signal", "KILL", "--pid-file", "p"],
        ["x509", "--write", "OUT", "--follow", "--exec", "'"],
        ["x509", "--write", "OUT", "--hint", "nobody"],
        ["x509", "--write", "OUT", "--follow", "--hint", "nobody"],
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    identity: IdentityProcess, tmp_path: Path, arguments: list[str]
) -> None:
    given = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    command = [*REMPART, "svid", *given, "--state", str(identity.directory)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2, ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pid", ["0", "1", "-1", "x", ""])
def test_a_pid_file_that_names_no_process_hits_nobody(identity: IdentityProcess, tmp_path: Path, pid: str) -> None:
    (tmp_path / "pid").write_text(pid)
    arguments = ("x509", "--write", str(tmp_path / "out"), "--signal", "TERM", "--pid-file", str(tmp_path / "pid"))
    with following(identity, *arguments) as process:
        log = identity.directory / "follow.log"
        eventually(lambda: "can't be told" in log.read_text(), within=10)
        assert process.poll() is None


def test_curl_and_openssl_are_here() -> None:
    assert shutil.which("curl")
    assert shutil.which("openssl")
