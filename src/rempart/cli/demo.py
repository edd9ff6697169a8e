"""`rempart demo`: play the application's critical flows; each with its decision and its entry in the audit log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess  # nosec B404 - runs the application's own demo command
import sys
from pathlib import Path
from typing import Any

import typer

from rempart.kernel.errors import BadInput, RempartError, Unavailable

from .control import status as ask_status
from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)
WITHIN = 120.0


@app.command()
def demo(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Play the critical flows against the running system. Exit code 1 when one went otherwise than expected."""
    flows = play(state_dir(state))
    ok = bool(flows) and all(flow.get("ok") for flow in flows)
    if as_json:
        print_json({"flows": flows, "ok": ok})
    else:
        print_flows(flows)
    if not ok:
        raise SystemExit(1)


def play(state: Path) -> list[dict[str, Any]]:
    """Run `[app] demo`, which prints one JSON object for each flow, and add what the audit log says about it."""
    status = ask_status(state)
    if not status["demo"]:
        raise BadInput(
            "no_demo", "this application has no demo", 'set `demo = ["program", …]` in [app] of rempart.toml'
        )
    own = str(Path(sys.prefix) / "bin")
    path = os.pathsep.join([own, os.environ.get("PATH") or os.defpath])
    env = {**os.environ, "PATH": path, "REMPART_STATUS": json.dumps(status), "REMPART_STATE": str(state)}
    program = shutil.which(status["demo"][0], path=path)
    if program is None:
        raise BadInput("no_program", f"the demo's program {status['demo'][0]!r} is not there")
    try:
        done = subprocess.run(  # nosec B603 - an argument list from rempart.toml, no shell
            [program, *status["demo"][1:]],
            cwd=status["app_dir"],
            env=env,
            stdout=subprocess.PIPE,
            timeout=WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("demo_hangs", f"the demo did not end within {WITHIN:.0f} s", "see `rempart logs`") from None
    flows = []
    for line in done.stdout.splitlines():
        try:
            flow = json.loads(line)
        except ValueError:
            continue
        if isinstance(flow, dict) and "flow" in flow:
            flow["audit"] = _audit_entry(state, str(flow.get("decision_id") or ""))
            flows.append(flow)
    if done.returncode != 0:
        say(f"the demo ended with {done.returncode}")
        flows.append({"flow": "demo", "title": "the demo program itself", "ok": False, "status": done.returncode})
    return flows


def _audit_entry(state: Path, decision_id: str) -> dict[str, Any] | None:
    if not decision_id:
        return None
    try:
        entry = call(state, "sequencer", "GET", f"/events/{decision_id}")
    except RempartError:
        return None
    return entry if isinstance(entry, dict) else None


def print_flows(flows: list[dict[str, Any]]) -> None:
    rows = []
    for flow in flows:
        entry = flow.get("audit") or {}
        index = next((entry[key] for key in ("index", "leaf", "position") if key in entry), None)
        audit = f"#{index} {flow.get('decision_id')}" if index is not None else flow.get("decision_id") or ""
        rows.append(
            (
                flow.get("flow"),
                flow.get("caller"),
                flow.get("request"),
                flow.get("observed"),
                flow.get("why"),
                audit,
                "ok" if flow.get("ok") else f"EXPECTED {flow.get('expected')}",
            )
        )
    print_table(("flow", "caller", "request", "decision", "why", "audit entry", ""), rows)
