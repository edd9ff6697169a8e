"""`rempart down`: stop everything that `up` started, in order."""

from __future__ import annotations

import time

import typer

from rempart.kernel.errors import Unavailable

from .control import ask, connect
from .output import print_json, say
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)
WITHIN = 30.0


@app.command()
def down(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Stop everything that `up` started."""
    from rempart.servers.state_files import holder

    directory = state_dir(state)
    stopped: list[str] = []
    with connect(directory, timeout=WITHIN) as connection:
        try:
            for line in ask(connection, {"op": "down"}):
                if "stopped" in line:
                    stopped.append(line["stopped"])
                    if not as_json:
                        say(f"  stopped {line['stopped']}")
                if line.get("done"):
                    break
        except OSError:
            pass  # it ended before the last line: the lock tells
    deadline = time.monotonic() + WITHIN
    while (pid := holder(directory)) is not None:
        if time.monotonic() > deadline:
            raise Unavailable("still_up", f"the supervisor (process {pid}) has not ended", f"kill -9 {pid}")
        time.sleep(0.02)
    if as_json:
        print_json({"stopped": stopped})
    else:
        say("stopped")
