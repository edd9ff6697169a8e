"""How long the second start takes, and how much memory each process holds.

`server run` and `agent run` stand beside SPIRE's two where those are on the PATH, else beside what was once measured.
Ours is several processes: what they share counts once (Pss, proc_pid_smaps(5)); a sum of RSS counts it for each.
"""

from __future__ import annotations

import json
import shutil
import subprocess  # nosec B404 - starts our own command
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.spire import private_spire, spire_is_missing
from tests.support import eventually

from benchmarks.running import REMPART, free_port, memory, rempart, start, status

STARTS = 3


def run() -> list[dict[str, Any]]:
    state = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))  # nosec B108 - mkdtemp makes it private; sockets need a short path
    try:
        listen = f"127.0.0.1:{free_port()}"
        start(state, listen)
        rempart("down", "--state", str(state))
        seconds = []
        for attempt in range(STARTS):
            seconds.append(start(state, listen))
            if attempt < STARTS - 1:
                rempart("down", "--state", str(state))
        processes = status(state)["processes"]
        held = {p["name"]: memory(p["pid"]) for p in processes if p["pid"]}
        rempart("down", "--state", str(state))
    finally:
        shutil.rmtree(state, ignore_errors=True)
    rows: list[dict[str, Any]] = [
        {
            "what": "start, from the second on",
            "against": "5 s",
            "ours": f"{sorted(seconds)[len(seconds) // 2]:.1f} s median of {STARTS}",
            "ratio": None,
            "target": "≤ 5 s",
        }
    ]
    rows += _beside_spire()
    rows.append(_memory_row("memory, all processes", sum(held.values())))
    rows += [_memory_row(f"  {name}", mib) for name, mib in sorted(held.items(), key=lambda item: -item[1])]
    return rows


def _beside_spire() -> list[dict[str, Any]]:
    quoted = {"server": 105.0, "agent": 70.0}
    with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as name, ExitStack() as stack:  # nosec B108 - made private
        directory, port = Path(name), free_port()
        against = "SPIRE, quoted"
        if not spire_is_missing():
            spire = stack.enter_context(private_spire())
            against = "SPIRE"
            quoted = {one.removeprefix("spire-"): memory(process.pid) for one, process in spire.processes.items()}
        server, agent = directory / "server", directory / "agent"
        address = f"127.0.0.1:{port}"
        command = ("server", "run", "--trust-domain", "bank.example", "--listen", address, "--detach", "--json")
        document = json.loads(rempart(*command, "--state", str(server)).stdout)
        stack.callback(rempart, "down", "--state", str(server))
        rempart("agent", "token", "--write", str(directory / "token"), "--state", str(server))
        (directory / "bundle").write_text(rempart("bundle", "export", "--state", str(server)).stdout)
        joining = ("--server", address, "--trust-domain", "bank.example", "--bundle", str(directory / "bundle"))
        running = subprocess.Popen(  # nosec B603 - our own command
            [REMPART, "agent", "run", *joining, "--join-token-file", str(directory / "token"), "--state", str(agent)],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(running.wait, 20)
        stack.callback(running.terminate)
        eventually((agent / "run" / "workload.sock").exists, within=30)
        pids = {
            "server": [document["supervisor"], *(one["pid"] for one in document["processes"] if one["pid"])],
            "agent": [running.pid],
        }
        held = {part: (sum(memory(pid, "Pss") for pid in of), sum(map(memory, of))) for part, of in pids.items()}
    rss = sum(resident for _, resident in held.values())
    together = {
        "what": "memory, both, sum of RSS",
        "against": f"{against}, freshly started",
        "ours": f"{rss:.0f} MiB",
        "peer": f"{sum(quoted.values()):.0f} MiB",
        "ratio": rss / sum(quoted.values()),
        "target": "SPIRE once held 105 + 70",
    }
    return [
        {
            "what": f"memory, {part}: {len(pids[part])} process{'es' if part == 'server' else ''}",
            "against": against,
            "ours": f"{pss:.0f} MiB ({rss:.0f} as a sum of RSS)",
            "peer": f"{quoted[part]:.0f} MiB RSS",
            "ratio": pss / quoted[part],
            "target": "less",
        }
        for part, (pss, rss) in held.items()
    ] + [together]


def _memory_row(what: str, mib: float) -> dict[str, Any]:
    return {"what": what, "against": "", "ours": f"{mib:.0f} MiB RSS", "ratio": None, "target": "stated"}
