"""SVIDs over the Workload API's socket, asked for by grpc-go: `workload_api_load` beside this, built where there is Go.

Where `spire-server` and `spire-agent` are on the PATH they are measured in turns with ours, without their limit of
signatures a second; elsewhere the figures are quoted that were measured on two cores like these.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess  # nosec B404 - builds and starts our own program
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from tests.spire import private_spire, spire_is_missing
from tests.support import eventually

from benchmarks.running import bank, rempart

SECONDS = 3.0
TURNS = 3
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
    with tempfile.TemporaryDirectory(prefix="rwl") as name, ExitStack() as stack:
        program = _build(Path(name))
        if isinstance(program, str):
            return [{"what": what, "against": "spire-agent", "skipped": program} for what, *_ in _ROWS]
        entries = Path(name) / "entries.yaml"
        mine = f"unix:uid:{os.geteuid()}"
        entry = {"spiffe_id": "spiffe://bank.example/load", "selectors": [mine]}
        entries.write_text(yaml.safe_dump({"entries": [entry]}), encoding="utf-8")
        spire = None
        if not spire_is_missing():
            peer = stack.enter_context(private_spire(measured=True))
            entry_of = ("-parentID", peer.agent_id, "-spiffeID", entry["spiffe_id"], "-selector", mine)
            peer.ask("entry", "create", *entry_of)
            spire = peer.agent_socket
            eventually(lambda: _load(program, peer.agent_socket, "x509", 1, 0.1) is not None, within=30)
        state, document = stack.enter_context(bank())
        rempart("entry", "apply", str(entries), "--state", str(state))
        pid = next(one["pid"] for one in document["processes"] if one["name"] == "identity")
        return [_row(program, state / "run" / "workload.sock", spire, pid, *row) for row in _ROWS]


def _row(
    program: Path,
    socket: Path,
    spire: Path | None,
    pid: int,
    what: str,
    kind: str,
    clients: int,
    quoted: float,
    least: float,
) -> dict[str, Any]:
    turns, used, asked = [], 0.0, 0.0
    for _ in range(TURNS):
        before = _processor_seconds(pid)
        ours = _load(program, socket, kind, clients) or 0.0
        used, asked = used + _processor_seconds(pid) - before, asked + ours * SECONDS
        turns.append((ours, quoted if spire is None else _load(program, spire, kind, clients) or quoted))
    ours, peer = (statistics.median(values) for values in zip(*turns, strict=True))
    return {
        "what": what,
        "against": "spire-agent, quoted" if spire is None else "spire-agent",
        "ours": f"{ours:.0f}/s ({used * 1e6 / max(asked, 1):.0f} µs of identity each)",
        "peer": f"{peer:.0f}/s",
        "ratio": statistics.median(ours / peer for ours, peer in turns),
        "target": f"≥ {least:g}×",
    }


def _load(program: Path, socket: Path, kind: str, clients: int, seconds: float = SECONDS) -> float | None:
    """Answers a second; None when there were none."""
    command = [str(program), str(socket), kind, str(clients), str(seconds)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)  # nosec B603 - built above
    return float(ran.stdout) if ran.returncode == 0 else None
