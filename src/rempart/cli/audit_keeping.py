"""`rempart audit`: what changes the record's own affairs: erasing, retention, legal holds."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

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
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Delete events whose time is over ([audit.retention]), after exporting them; the tree stays provable."""
    answer = call(state_dir(state), "sequencer", "POST", "/prune", {"dry": dry_run}, timeout=3600.0)
    if json:
        print_json(answer)
        return
    rows = [(run["first"], run["end"] - 1, run["deleted"], run.get("export", "")) for run in answer["runs"]]
    print_table(("from", "to", "deleted", "export"), rows)
    say(f"{answer['deleted']} events {'are due' if dry_run else 'were deleted'}")


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
