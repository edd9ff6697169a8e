"""Decisions per second: our PDP with every decision durable, against `opa run --server` on the same policy and input.

One core each for the server, another for the load generator (ours, for both: 32 connections, as the workload has them),
unix sockets for both, in turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess  # nosec B404 - builds and starts OPA
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import decisions

ROUNDS = 3
SECONDS = 2.0
_WHAT = "PDP, 12-rule policy, every decision durable"
_AGAINST = "opa run --server, same policy and input, one core each"


def run() -> list[dict[str, Any]]:
    opa, why = find_opa()
    if opa is None:
        return [{"what": _WHAT, "against": _AGAINST, "skipped": why}]
    cores = sorted(os.sched_getaffinity(0))
    server, client = cores[0], cores[-1]
    rates: dict[str, list[float]] = {"ours": [], "opa": []}
    spent: dict[str, list[float]] = {"ours": [], "opa": []}
    with (
        decisions.directory() as base,
        decisions.pdp(base, server) as (socket, pid),
        _opa(opa, base, server) as (opa_socket, opa_pid),
    ):
        for _ in range(ROUNDS):
            for name, where, process, question in (
                ("ours", socket, pid, decisions.question()),
                ("opa", opa_socket, opa_pid, _opa_question()),
            ):
                before = decisions.cpu_seconds(process)
                result = decisions.load(str(where), question, SECONDS, cpu=client)
                spent[name].append((decisions.cpu_seconds(process) - before) / result["total"] * 1e6)
                rates[name].append(_all_ok(result))
    a, b = statistics.median(rates["ours"]), statistics.median(rates["opa"])
    c, d = statistics.median(spent["ours"]), statistics.median(spent["opa"])
    return [
        {
            "what": _WHAT,
            "against": _AGAINST,
            "ours": f"{a:,.0f}/s, {c:.0f} µs CPU each",
            "peer": f"{b:,.0f}/s, {d:.0f} µs CPU each",
            "ratio": a / b,
            "target": "≥ 2×",
        }
    ]


def find_opa() -> tuple[str | None, str]:
    """OPA's path; built once by `go install` where Go is. Else why there is none."""
    beside = Path(sys.executable).parent / "opa"
    found = os.environ.get("OPA") or shutil.which("opa") or (str(beside) if beside.exists() else None)
    if found:
        return found, ""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return None, "there is neither opa nor go to build it"
    environment = {**os.environ, "GOBIN": str(beside.parent)}
    command = [go, "install", "github.com/open-policy-agent/opa@latest"]
    built = subprocess.run(  # nosec B603 - fixed arguments
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        return None, f"go install opa failed: {built.stderr.strip().splitlines()[-1:]}"
    return str(beside), ""


@contextmanager
def _opa(opa: str, base: Path, cpu: int) -> Iterator[tuple[Path, int]]:
    socket = base / "opa.sock"
    process = subprocess.Popen(  # nosec B603 - fixed arguments
        [opa, "run", "--server", "--addr", f"unix://{socket}", "--log-level", "error", str(base / "policy")],
        env={**os.environ, "GOMAXPROCS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    try:
        decisions.wait_for(socket, process)
        time.sleep(0.5)
        yield socket, process.pid
    finally:
        process.terminate()
        process.wait(10)


def _opa_question() -> bytes:
    body = json.dumps({"input": decisions.policy_input()}).encode()
    path = "/v1/" + decisions.ENTRYPOINT.replace(".", "/")
    head = f"POST {path} HTTP/1.1\r\nhost: opa\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _all_ok(rates: dict[str, float]) -> float:
    if rates["other"] or not rates["ok"]:
        raise RuntimeError(f"not every answer was 200: {rates}")
    return rates["ok"]
