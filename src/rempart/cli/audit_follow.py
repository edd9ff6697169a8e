"""`rempart audit tail`: events as they come, one a line, coloured on a terminal."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import Unavailable

from .audit_events import PAGE, Decision, PathOption, Person, Rule, Text, Type, Workload, cells, given, pages, shade
from .output import print_json, say
from .state import JsonOption, StateOption, state_dir

_WAIT = 20  # seconds that the sequencer lets us wait for something new
_MOST = 100_000  # events of one answer
_AGAIN = 1.0  # seconds, while it is being started again


def tail(
    type: Type = None,
    person: Person = None,
    workload: Workload = None,
    decision: Decision = None,
    rule: Rule = None,
    path: PathOption = None,
    text: Text = None,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=PAGE, help="Begin with so many old ones")] = 10,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """New events as they come, one a line; a sequencer that is started again is waited for. Ctrl-C ends it."""
    directory = state_dir(state)
    asked = given(person, workload, type, None, None, decision, rule, path, text)
    write = print_json if json else _Lines().write
    with contextlib.suppress(KeyboardInterrupt):
        page = next(pages(directory, asked, max(1, last)))
        for event in page["events"][:last][::-1]:
            write(event)
        seen = max([page["indexed"], *(event["index"] + 1 for event in page["events"])])
        while True:
            fresh, seen = _following(directory, asked, seen)
            for event in fresh:
                write(event)


def _following(directory: Path, asked: dict[str, str], seen: int) -> tuple[list[dict[str, Any]], int]:
    """Events from index `seen` on, oldest first, and where the next ones begin; waits for some."""
    fresh: list[dict[str, Any]] = []
    following = seen
    try:
        for page in pages(directory, {**asked, "after": str(seen), "wait": str(_WAIT)}, _MOST):
            fresh += page["events"]
            following = max([following, page["indexed"], *(event["index"] + 1 for event in page["events"])])
    except Unavailable:
        say("waiting for the sequencer")
        time.sleep(_AGAIN)
        return [], seen  # what was found of a longer answer is asked for again
    return fresh[::-1], following


class _Lines:
    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)

    def write(self, event: dict[str, Any]) -> None:
        from rich.text import Text as Line

        index, at, kind, _, who, what, why, id = cells(event)
        style = shade(event)
        mark = "✓" if event["success"] else "✗"
        clock = at[11:23] if self._console.is_terminal else at
        line = Line.assemble(
            (f"{index:>7} {clock} ", "dim"),
            (f"{mark} {kind:<26}", style or "green"),
            (f" {who}" if who else "", "cyan"),
            (f"  {what}" if what else "", "bold"),
            (f"  {why}" if why else "", style),
            (f"  {id}", "dim"),
        )
        self._console.print(line)
