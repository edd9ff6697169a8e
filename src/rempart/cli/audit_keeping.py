"""`rempart audit`: what changes the record's own affairs: erasing, retention, legal holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import Conflict

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

Person = Annotated[str | None, typer.Option(help="A person's id")]
Workload = Annotated[str | None, typer.Option(help="A SPIFFE ID")]


def erase(
    person: Annotated[str, typer.Argument(help="A person's id")],
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Destroy the key of a person's data in the log, for good. Every hash and proof stays right."""
    answer = call(state_dir(state), "sequencer", "POST", f"/persons/{quote(person, safe='')}/erase")
    if json:
        print_json(answer)
    else:
        say(f"nobody can read what the log holds of {person}; recorded as {answer['event']}")


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what is due")] = False,
    past_sinks: Annotated[bool, typer.Option("--past-sinks", help="Also what a sink has not taken yet")] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Delete events whose time is over ([audit.retention]), after exporting them; the tree stays provable.

    What a sink has not taken yet stays, since it would never get it; then the exit code is 1.
    """
    directory = state_dir(state)
    sinks = [] if dry_run or past_sinks else _sinks(directory)
    wanted = {"dry": dry_run, "taken": min((sink["next"] for sink in sinks), default=None)}
    answer = call(directory, "sequencer", "POST", "/prune", wanted, timeout=3600.0)
    if (end := answer["waits_for"]) is not None:
        behind = ", ".join(sink["name"] for sink in sinks if sink["next"] < end)
        raise Conflict(
            "sink_behind",
            f"{answer['deleted']} events were deleted; {behind} did not take yet what else is due, up to {end - 1}",
            "see `rempart audit sinks`, or say --past-sinks",
        )
    if json:
        print_json(answer)
        return
    rows = [(run["first"], run["end"] - 1, run["deleted"], run.get("export", "")) for run in answer["runs"]]
    print_table(("from", "to", "deleted", "export"), rows)
    say(f"{answer['deleted']} events {'are due' if dry_run else 'were deleted'}")


def _sinks(directory: Path) -> list[dict[str, Any]]:
    """Raises Unavailable where there are sinks that can't be asked."""
    if not (directory / "run/admin/shipper.sock").exists():
        return []
    found: list[dict[str, Any]] = call(directory, "shipper", "GET", "/sinks")["sinks"]
    return found


def hold(
    id: Annotated[str, typer.Argument(help="A name for the hold")],
    reason: Annotated[str, typer.Option(help="Why: the case it is for")] = "",
    person: Person = None,
    workload: Workload = None,
    service: Annotated[str | None, typer.Option(help="The service that was acted on")] = None,
    type: Annotated[str | None, typer.Option(help="A type of event, or a group such as `money.`")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End it")] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """A legal hold: events that have all the given values are not deleted until it is lifted."""
    if lift:
        answer = call(state_dir(state), "sequencer", "POST", f"/holds/{quote(id, safe='')}/lift")
    else:
        wanted = {"id": id, "reason": reason, "person": person, "workload": workload, "service": service, "type": type}
        answer = call(state_dir(state), "sequencer", "POST", "/holds", wanted)
    if json:
        print_json(answer)
    else:
        say(f"{id} is {'lifted' if lift else 'held'}; recorded as {answer['event']}")


def holds(state: StateOption = None, json: JsonOption = False) -> None:
    """The legal holds."""
    answer = call(state_dir(state), "sequencer", "GET", "/holds")
    if json:
        print_json(answer)
    else:
        names = ("id", "reason", "person", "workload", "service", "type")
        print_table(names, [[one.get(name) or "" for name in names] for one in answer["holds"]])
