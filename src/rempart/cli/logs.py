"""`rempart logs`: what the processes printed. Works when nothing runs, too."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import NotFound, Unavailable

from .output import print_json
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def logs(
    process: Annotated[str | None, typer.Argument(help="One process; default: all")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C")] = False,
    lines: Annotated[int, typer.Option(help="How many of the last lines of each")] = 20,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the processes printed."""
    directory = state_dir(state) / "logs"
    if not directory.is_dir():
        raise Unavailable("no_logs", f"there is no {directory}", "start with `rempart up`, or name --state")
    files = sorted(directory.glob("*.log"))
    if process is not None:
        files = [file for file in files if file.stem == process]
        if not files:
            known = ", ".join(sorted(file.stem for file in directory.glob("*.log")))
            raise NotFound("no_such_process", f"{process!r} has no log", f"there are: {known}")
    positions = {}
    for file in files:
        content = file.read_bytes()
        positions[file] = len(content)
        for line in content.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []:
            _show(file, line, as_json, alone=len(files) == 1)
    while follow:
        for file in files:
            positions[file] = _more(file, positions[file], as_json, alone=len(files) == 1)
        time.sleep(0.2)


def _more(file: Path, position: int, as_json: bool, *, alone: bool) -> int:
    """Print whole lines from `position` on; returns where to go on."""
    size = file.stat().st_size
    if size < position:  # it was rotated
        position = 0
    with file.open("rb") as stream:
        stream.seek(position)
        whole, newline, _ = stream.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        _show(file, line, as_json, alone=alone)
    return position + len(whole) + len(newline)


def _show(file: Path, line: str, as_json: bool, *, alone: bool) -> None:
    if as_json:
        print_json({"process": file.stem, "line": line})
    else:
        sys.stdout.write(line + "\n" if alone else f"{file.stem:<18} {line}\n")
        sys.stdout.flush()
