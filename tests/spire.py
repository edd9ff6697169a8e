"""A private SPIRE: a real `spire-server` and `spire-agent` of the PATH, in their own directory, gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support import eventually, free_port, short_directory

GROUP = 64137
SERVER, AGENT = "spire-server", "spire-agent"


def spire_is_missing() -> str:
    """Why it can't be run here; empty when it can."""
    missing = [name for name in (SERVER, AGENT) if shutil.which(name) is None]
    return f"{' and '.join(missing)} not on the PATH" if missing else ""


@dataclass
class PrivateSpire:
    """`directory` has a short path; everybody may pass, so that processes of other users reach the agent's socket."""

    directory: Path
    trust_domain: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.chmod(0o711)
        (self.directory / "agent").mkdir(mode=0o755)
        if os.geteuid() == 0:
            os.chown(self.directory, -1, GROUP)
        self.server_socket = self.directory / "server.sock"
        self.agent_socket = self.directory / "agent" / "api.sock"
        self.port = free_port()

    @property
    def agent_id(self) -> str:
        return f"spiffe://{self.trust_domain}/host"

    def start(self, *, ca_ttl: str = "24h", measured: bool = False) -> None:
        """`measured`: as fast as it can, without a limit of signatures a second and without a look at the program."""
        limits = "ratelimit {\n attestation = false\n signing = false\n }" if measured else ""
        looks = "" if measured else "discover_workload_path = true, workload_size_limit = -1"
        self._write(
            "server.conf",
            f"""
server {{
  bind_address = "127.0.0.1"
  bind_port = "{self.port}"
  socket_path = "{self.server_socket}"
  trust_domain = "{self.trust_domain}"
  data_dir = "{self.directory}/server-data"
  log_level = "WARN"
  ca_ttl = "{ca_ttl}"
  {limits}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{self.directory}/datastore.sqlite3"
    }}
  }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{self.directory}/server-keys.json" }} }}
}}
""",
        )
        self.start_server()
        token = self.ask("token", "generate", "-spiffeID", self.agent_id)["value"]
        trusted = subprocess.run(
            [SERVER, "bundle", "show", "-socketPath", str(self.server_socket)], check=True, capture_output=True
        )
        (self.directory / "bundle.pem").write_bytes(trusted.stdout)
        self._write(
            "agent.conf",
            f"""
agent {{
  data_dir = "{self.directory}/agent-data"
  log_level = "WARN"
  server_address = "127.0.0.1"
  server_port = "{self.port}"
  socket_path = "{self.agent_socket}"
  trust_bundle_path = "{self.directory}/bundle.pem"
  trust_domain = "{self.trust_domain}"
  join_token = "{token}"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "{self.directory}/agent-data" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{ {looks} }} }}
}}
""",
        )
        self.start_agent()

    def start_server(self) -> None:
        self._run(SERVER, "run", "-config", str(self.directory / "server.conf"))
        eventually(self._server_answers, within=20)

    def start_agent(self) -> None:
        (self.directory / "agent-data").mkdir(exist_ok=True)
        self._run(AGENT, "run", "-config", str(self.directory / "agent.conf"))
        eventually(self.agent_socket.exists, within=20)

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.send_signal(how)
            process.wait(20)

    def close(self) -> None:
        for name in list(self.processes):
            self.stop(name, signal.SIGKILL)

    def ask(self, *command: str) -> Any:
        """`spire-server COMMAND`, as JSON."""
        ran = subprocess.run(
            [SERVER, *command, "-socketPath", str(self.server_socket), "-output", "json"],
            check=True,
            capture_output=True,
        )
        return json.loads(ran.stdout)

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def _run(self, name: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            # its sockets get this group: Rempart gives no process the group of root
            group = {"group": GROUP, "extra_groups": []} if os.geteuid() == 0 else {}
            self.processes[name] = subprocess.Popen(
                [name, *arguments], stdout=log, stderr=log, cwd=self.directory, **group
            )

    def _server_answers(self) -> bool:
        process = self.processes[SERVER]
        assert process.poll() is None, (self.directory / f"{SERVER}.log").read_text()
        ran = subprocess.run([SERVER, "healthcheck", "-socketPath", str(self.server_socket)], capture_output=True)
        return ran.returncode == 0


@contextlib.contextmanager
def private_spire(trust_domain: str = "bank.example", **settings: Any) -> Iterator[PrivateSpire]:
    """Skips the test where SPIRE isn't there."""
    if why := spire_is_missing():
        pytest.skip(why)
    with short_directory("sp") as directory:
        spire = PrivateSpire(directory, trust_domain)
        try:
            spire.start(**settings)
            yield spire
        finally:
            spire.close()
