"""How long the second start takes, and how much memory each process holds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.running import free_port, rempart, start, status

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
        memory = {p["name"]: _rss_mib(p["pid"]) for p in processes if p["pid"]}
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
    rows.append(_memory_row("memory, all processes", sum(memory.values())))
    rows += [_memory_row(f"  {name}", mib) for name, mib in sorted(memory.items(), key=lambda item: -item[1])]
    return rows


def _memory_row(what: str, mib: float) -> dict[str, Any]:
    return {"what": what, "against": "", "ours": f"{mib:.0f} MiB RSS", "ratio": None, "target": "stated"}


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
