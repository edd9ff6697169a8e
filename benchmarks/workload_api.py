"""SVIDs over the Workload API's socket, asked for by grpc-go: `workload_api_load` beside this, built where there is Go.

SPIRE's figures were measured with `spire-agent` on two cores like these, and are quoted: it isn't installed here.
"""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404 - builds and starts our own program
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.running import bank, rempart

SECONDS = 4
SOURCE = Path(__file__).parent / "workload_api_load"
# (what, kind, clients, SPIRE's answers per second, at least this often as many)
_ROWS = (
    ("X.509-SVID over the socket, one client", "x509", 1, 2400, 1.0),
    ("X.509-SVID over the socket, sixteen", "x509", 16, 5200, 1.0),
    ("JWT-SVID, fresh audience each, one client", "jwt", 1, 800, 2.0),
    ("JWT-SVID, fresh audience each, sixteen", "jwt", 16, 2200, 1.5),
)


def _build(directory: Path) -> Path | str:
    """The program, or why there is none."""
    go = shutil.which("go")
    if go is None:
        return "go is not installed"
    program = directory / "load"
    built = subprocess.run([go, "build", "-o", str(program), "."], cwd=SOURCE, capture_output=True, text=True)  # nosec B603 - fixed arguments
    return built.stderr.strip()[-200:] if built.returncode else program


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="rwl") as name:
        program = _build(Path(name))
        if isinstance(program, str):
            return [{"what": what, "against": "spire-agent", "skipped": program} for what, *_ in _ROWS]
        entries = Path(name) / "entries.yaml"
        entry = {"spiffe_id": "spiffe://bank.example/load", "selectors": [f"unix:uid:{os.geteuid()}"]}
        entries.write_text(yaml.safe_dump({"entries": [entry]}), encoding="utf-8")
        with bank() as (state, document):
            rempart("entry", "apply", str(entries), "--state", str(state))
            pid = next(one["pid"] for one in document["processes"] if one["name"] == "identity")
            return [_row(program, state, pid, *row) for row in _ROWS]


def _row(
    program: Path, state: Path, pid: int, what: str, kind: str, clients: int, peer: int, target: float
) -> dict[str, Any]:
    used, began = _processor_seconds(pid), time.monotonic()
    command = [str(program), str(state / "run" / "workload.sock"), kind, str(clients), str(SECONDS)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # nosec B603 - built above
    share = (_processor_seconds(pid) - used) / (time.monotonic() - began)
    ours = float(ran.stdout)
    return {
        "what": what,
        "against": "spire-agent, recorded",
        "ours": f"{ours:.0f}/s ({share * 1e6 / max(ours, 1):.0f} µs of identity each)",
        "peer": f"{peer}/s",
        "ratio": ours / peer,
        "target": f"≥ {target:g}×",
    }
