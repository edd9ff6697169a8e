"""The bank over two hosts (network namespaces): the wallet, its sidecar and a PDP of its own on the second one. All
flows run, the link is cut for a while, and the one record on the first host has everything once."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import BANK, Running, running
from tests.support import free_port, short_directory
from tests.two_hosts import OtherHost, other_host

WALLET = 'name = "wallet"\n'
HOST = '[[host]]\nname = "host-b"\naddress = "{there}"\n\n'


@dataclass(frozen=True)
class Split:
    """`near` has the gateway, `far` the wallet."""

    near: Running
    far: Running
    link: OtherHost

    def there(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`rempart` on the second host."""
        return on(self.link, *arguments, state=self.far.state)


def on(link: OtherHost, *arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    command = [*link.prefix, str(Path(sys.prefix) / "bin" / "rempart"), *arguments, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def application(directory: Path, link: OtherHost, port: int) -> Path:
    """The bank with its wallet on the other host."""
    app = directory / "bank"
    shutil.copytree(BANK, app, ignore=shutil.ignore_patterns("__pycache__", ".rempart"))
    settings = (app / "rempart.toml").read_text()
    settings = settings.replace(WALLET, WALLET + 'host = "host-b"\n', 1)
    settings = settings.replace('listen = "127.0.0.1:0"', f'listen = "{link.here}:{port}"')
    settings = settings.replace("[policy]", HOST.format(there=link.there) + "[policy]")
    (app / "rempart.toml").write_text(settings)
    return app


@contextlib.contextmanager
def second_host(near: Running, app: Path, link: OtherHost, port: int, directory: Path) -> Iterator[Running]:
    bundle, token, state = directory / "bundle.json", directory / "token", directory / "b"
    bundle.write_text(near.run("bundle", "export").stdout)
    made = near.run("agent", "token", "--name", "host-b", "--write", str(token))
    assert made.returncode == 0, made.stderr
    joining = ("--server", f"{link.here}:{port}", "--bundle", str(bundle), "--join-token-file", str(token))
    done = on(link, "agent", "run", "--app", str(app), *joining, "--detach", "--json", state=state)
    try:
        assert done.returncode == 0, done.stderr
        yield Running(state, json.loads(done.stdout))
    finally:
        on(link, "down", state=state)


@pytest.fixture(scope="module")
def split() -> Iterator[Split]:
    port = free_port()
    with other_host() as link, short_directory("rp2h") as directory:
        app = application(directory, link, port)
        with (
            running(app, state=directory / "a") as near,
            second_host(near, app, link, port, directory) as far,
        ):
            yield Split(near, far, link)


def found(split: Split, *arguments: str) -> list[dict[str, Any]]:
    done = split.near.run("audit", "search", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def test_all_flows_of_the_bank_run_over_two_hosts(split: Split) -> None:
    played = split.near.run("demo", "--json", timeout=120)
    assert played.returncode == 0, played.stdout + played.stderr


pytestmark = pytest.mark.timeout(240)
