"""Let the real Envoy read a configuration before anything starts on it."""

from __future__ import annotations

import json
import re
import subprocess  # nosec B404 - the program is the Envoy of our own wheel, its arguments are ours
import tempfile
from pathlib import Path

from rempart.kernel.errors import BadInput, Unavailable

from .binary import envoy_binary
from .shape import Json

_CAUSE = re.compile(r"(?:error initializing configuration|Unable to parse|Protobuf|INVALID_ARGUMENT)[^\n]*")


def validate(config: Json, *, timeout_s: float = 20.0) -> None:
    """Run `envoy --mode validate`; nothing is bound and nothing is left on disk.

    Raises BadInput `envoy_config_refused` with Envoy's reason, Unavailable `envoy_missing` | `envoy_no_answer`.
    """
    with tempfile.TemporaryDirectory(prefix="rempart-") as directory:
        path = Path(directory) / "envoy.json"
        path.write_text(json.dumps(config))
        command = [str(envoy_binary()), "--mode", "validate", "--config-path", str(path), "--log-level", "error"]
        try:
            done = subprocess.run(  # nosec B603 - no shell, no outside input
                command, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(
                "envoy_no_answer", f"Envoy did not check its configuration: {error}", "try again"
            ) from None
    if done.returncode != 0:
        said = done.stderr or done.stdout
        found = _CAUSE.search(said)
        cause = (found.group(0) if found else said.strip()[-500:]).replace(str(path), "the configuration")
        raise BadInput(
            "envoy_config_refused", f"Envoy refuses the configuration: {cause}", "report this with rempart.toml"
        )
