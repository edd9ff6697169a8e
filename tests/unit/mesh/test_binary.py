from __future__ import annotations

import os
import subprocess
from pathlib import Path

from rempart.mesh.binary import envoy_binary, envoy_command


def test_the_program_is_the_real_one() -> None:
    assert os.access(envoy_binary(), os.X_OK)
    said = subprocess.run([str(envoy_binary()), "--version"], capture_output=True, text=True, check=True, timeout=20)
    assert "/1.4" in said.stdout


def test_nothing_secret_and_no_hot_restart_on_the_command_line() -> None:
    command = envoy_command(Path("/run/envoy/wallet.json"), concurrency=3)
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "3"
    assert command[command.index("--config-path") + 1] == "/run/envoy/wallet.json"
