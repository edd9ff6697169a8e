"""`rempart audit`: what changes the record's own affairs: erasing, retention, legal holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
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

    Refused while a sink has not taken all of them: it would never get them.
    """
    directory = state_dir(state)
    if not (dry_run or past_sinks):
        _taken_by_sinks(directory)
    answer = call(directory, "sequencer", "POST", "/prune", {"dry": dry_run}, timeout=3600.0)
    if json:
        print_json(answer)
        return
    rows = [(run["first"], run["end"] - 1, run["deleted"], run.get("export", "")) for run in answer["runs"]]
    print_table(("from", "to", "deleted", "export"), rows)
    say(f"{answer['deleted']} events {'are due' if dry_run else 'were deleted'}")


def _taken_by_sinks(directory: Path) -> None:
    """Raises Conflict `sink_behind`, Unavailable where there are sinks that can't be asked."""
    sinks = (
        call(directory, "shipper", "GET", "/sinks")["sinks"] if (directory / "run/admin/shipper.sock").exists() else []
    )
    if not sinks:
        return
    due = call(directory, "sequencer", "POST", "/prune", {"dry": True}, timeout=3600.0)
    end = max((run["end"] for run in due["runs"]), default=0)
    behind = [sink["name"] for sink in sinks if sink["next"] < end]
    if behind:
        raise Conflict(
            "sink_behind",
            f"{', '.join(behind)} did not take yet what is due: events up to {end - 1}",
            "see `rempart audit sinks`, or say --past-sinks",
        )


def hold(
    id: Annotated[str, typer.Argument(help="A name for the hold")],
    reason: Annotated[str, typer.Option(help="Why: the case it is for")] = "",
    person: Person = None,
    workload: Workload = None,
    service: Annotated[str | None, typer.Option(help="The service that was acted on")] = None,
    type: Annotated[str | None, typer.Option(help="A type of event")] = None,
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
