"""A private S3: versitygw, real, over a directory of its own (https://github.com/versity/versitygw)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import eventually, short_directory

from rempart.backends.aws_signature import Credentials
from rempart.backends.s3_log import S3Log

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
CREDENTIALS = Credentials("AKIDTEST", "a secret of this test only")


def _program(directory: Path) -> Path:
    """Kept where `REMPART_TOOLS` says, so that it is built once."""
    keep = Path(os.environ.get("REMPART_TOOLS", directory))
    program = keep / "versitygw"
    if not program.exists():
        go = shutil.which("go")
        if go is None:
            pytest.skip("go is not installed, and versitygw is not in $REMPART_TOOLS")
        environment = {**os.environ, "GOBIN": str(keep), "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "auto"}
        built = subprocess.run([go, "install", VERSITYGW], env=environment, capture_output=True, text=True, check=False)
        if built.returncode:
            pytest.skip(f"versitygw can't be built here: {built.stderr.strip()[-300:]}")
    return program


@contextlib.contextmanager
def s3_server(tools: Path) -> Iterator[str]:
    """Yields its endpoint; it has the bucket `record`."""
    program = _program(tools)
    with short_directory("s3") as directory, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        (directory / "root/record").mkdir(parents=True)
        (directory / "meta").mkdir()
        environment = {"ROOT_ACCESS_KEY": CREDENTIALS.access_key, "ROOT_SECRET_KEY": CREDENTIALS.secret_key}
        command = [str(program), "--port", f"127.0.0.1:{port}", "posix", "--sidecar", str(directory / "meta")]
        process = subprocess.Popen(
            [*command, str(directory / "root")], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            endpoint = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(endpoint), within=20)
            yield endpoint
        finally:
            process.kill()
            process.wait(10)


def s3_log(endpoint: str, prefix: str) -> S3Log:
    return S3Log(endpoint, "record", prefix, CREDENTIALS)


def _answers(endpoint: str) -> bool:
    try:
        return httpx.get(endpoint, trust_env=False).status_code == 403
    except httpx.TransportError:
        return False
