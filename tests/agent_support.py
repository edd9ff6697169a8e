"""Real agents beside a real identity process: another host's, on this one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.identity_support import TRUST_DOMAIN, IdentityProcess
from tests.support import eventually, short_directory


@dataclass
class AgentProcess:
    """`arguments` are those of `rempart agent run`; `prefix` may put it into another network namespace."""

    directory: Path
    arguments: Sequence[str]
    prefix: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def state(self) -> Path:
        return self.directory / "s"

    @property
    def workload_api(self) -> Path:
        return self.state / "run" / "workload.sock"

    @property
    def endpoint(self) -> str:
        return f"unix://{self.workload_api}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self, *, wait: bool = True) -> None:
        rempart = str(Path(sys.executable).with_name("rempart"))
        command = [*self.prefix, rempart, "agent", "run", *self.arguments]
        with (self.directory / "log").open("ab") as log:
            said = self.log.count('"workload_api"')
            self.process = subprocess.Popen(
                [*command, "--state", str(self.state), "--json"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if wait:
            eventually(lambda: self._ended() or self.log.count('"workload_api"') > said, within=20)
            assert not self._ended(), self.log

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(10)

    def status(self) -> dict[str, Any]:
        path = str(self.state / "run" / "agent.sock")
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=10) as client:
            return dict(client.get("http://agent/status").json())


def write_bundle(identity: IdentityProcess, directory: Path) -> Path:
    path = directory / "bundle.json"
    path.write_text(json.dumps(identity.admin("GET", "/bundle").json()))
    return path


def make_token(identity: IdentityProcess, directory: Path, **asked: Any) -> tuple[Path, str]:
    """The file, and the id that its agent will have."""
    made = identity.admin("POST", "/agents/tokens", asked).json()
    path = directory / "token"
    path.write_text(made["token"])
    return path, made["spiffe_id"]


def entry_for(agent: str, path: str, **more: Any) -> dict[str, Any]:
    """For every process of this user on that agent's host."""
    return {
        "spiffe_id": f"spiffe://{TRUST_DOMAIN}{path}",
        "parent_id": agent,
        "selectors": [f"unix:uid:{os.getuid()}"],
        **more,
    }


@contextlib.contextmanager
def running_agent(
    identity: IdentityProcess,
    port: int,
    *,
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    also: Sequence[int] = (),
    **asked: Any,
) -> Iterator[tuple[AgentProcess, str]]:
    """An agent that joined by a token, and its id. `also`: ports of further servers."""
    with short_directory("rpag") as directory:
        token, spiffe_id = make_token(identity, directory, **asked)
        bundle = write_bundle(identity, directory)
        arguments = ["--server", f"{host}:{port}", "--trust-domain", TRUST_DOMAIN, "--bundle", str(bundle)]
        arguments += [word for other in also for word in ("--server", f"{host}:{other}")]
        agent = AgentProcess(directory, [*arguments, "--join-token-file", str(token)], prefix)
        agent.start()
        try:
            yield agent, spiffe_id
        finally:
            agent.stop()
