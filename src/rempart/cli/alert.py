"""`rempart alert …`: what the watch found, who looks at it, what is silent, which channels work."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help=__doc__)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
NoteOption = Annotated[str, typer.Option("--note", help="What is known or done about it")]
Id = Annotated[str, typer.Argument(help="The incident's id")]


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Resolved ones, too")] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Incidents that are not resolved, newest first. Ends with 1 while one is open that nobody acknowledged."""
    found = call(state_dir(state), "notifier", "GET", "/incidents?standing=all" if all_ else "/incidents")["incidents"]
    if json:
        print_json({"incidents": found})
    elif not found:
        say("nothing to look at")
    else:
        columns = ("incident", "severity", "standing", "since", "alerts", "what", "about")
        print_table(columns, [_row(one) for one in found])
    if any(one["standing"] == "open" and not one["silenced"] for one in found):
        raise SystemExit(1)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    standing = one["standing"] + (" (silent)" if one["silenced"] else "")
    return one["id"], one["severity"], standing, _when(one["first"]), one["count"], one["title"], _about(one)


def _about(one: dict[str, Any]) -> str:
    return ", ".join(one["principals"])


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + "Z"


@app.command()
def show(id: Id, state: StateOption = None, json: JsonOption = False) -> None:
    """One incident: what happened, to whom, and the events that prove it."""
    one = call(state_dir(state), "notifier", "GET", f"/incidents/{_path(id)}")
    if json:
        print_json(one)
        return
    print_table(
        ("incident", one["id"]),
        [
            ("what", one["title"]),
            ("why", one["reason"]),
            ("severity", one["severity"]),
            ("standing", f"{one['standing']} {('by ' + one['by']) if one['by'] else ''} {one['note']}".strip()),
            ("about", _about(one)),
            ("MITRE ATT&CK", ", ".join(one["attack"])),
            ("first, last", f"{_when(one['first'])}, {_when(one['last'])}"),
            ("alerts", f"{one['count']}: {' '.join(one['alerts'][-5:])}"),
            ("evidence", " ".join(one["evidence"][-5:])),
        ],
    )
    for event in one["evidence"][-1:]:
        say(f"rempart audit show {event} · rempart audit prove {event}")


@app.command()
def ack(id: Id, note: NoteOption = "", state: StateOption = None, json: JsonOption = False) -> None:
    """Say that you look at it: it is quiet until it gets worse."""
    _changed(call(state_dir(state), "notifier", "POST", f"/incidents/{_path(id)}/acknowledge", {"note": note}), json)


@app.command()
def resolve(id: Id, note: NoteOption = "", state: StateOption = None, json: JsonOption = False) -> None:
    """Say that it is over. The next alert of that kind opens a new incident."""
    _changed(call(state_dir(state), "notifier", "POST", f"/incidents/{_path(id)}/resolve", {"note": note}), json)


def _changed(one: dict[str, Any], json: bool) -> None:
    if json:
        print_json(one)
    else:
        say(f"{one['id']} is {one['standing']} by {one['by']}")


@app.command()
def silence(
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 7d")],
    why: Annotated[str, typer.Option("--why", help="The reason, for the record")],
    rule: Annotated[str, typer.Option("--rule", help="Alerts of this rule")] = "",
    about: Annotated[str, typer.Option("--about", help="Alerts about this principal, as `person:usr_…`")] = "",
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Send nothing of what matches all that is given. Incidents are kept all the same."""
    body = {"why": why, "seconds": _seconds(for_), "rule": rule, "principal": about}
    made = call(state_dir(state), "notifier", "POST", "/silences", body)
    print_json(made) if json else say(f"{made['id']} until {_when(made['until'])}")


@app.command()
def silences(state: StateOption = None, json: JsonOption = False) -> None:
    """What is silent now, and why."""
    found = call(state_dir(state), "notifier", "GET", "/silences")["silences"]
    if json:
        print_json({"silences": found})
    else:
        rows = [(s["id"], s["rule"], s["principal"], _when(s["until"]), s["by"], s["why"]) for s in found]
        print_table(("silence", "rule", "about", "until", "by", "why"), rows)


@app.command()
def unsilence(id: Annotated[str, typer.Argument()], state: StateOption = None, json: JsonOption = False) -> None:
    """Lift a silence."""
    lifted = call(state_dir(state), "notifier", "DELETE", f"/silences/{_path(id)}")
    print_json(lifted) if json else say(f"{lifted['id']} is lifted")


@app.command()
def channels(state: StateOption = None, json: JsonOption = False) -> None:
    """Which channels work. Ends with 1 while one fails."""
    document = call(state_dir(state), "notifier", "GET", "/channels")
    found = document["channels"]
    if json:
        print_json(document)
    else:
        rows = [(c["name"], c["least"], c["sent"], c["waiting"], c["lost"], c["failing"] or "works") for c in found]
        print_table(("channel", "from", "sent", "waiting", "lost", "state"), rows)
    if any(one["failing"] for one in found):
        raise SystemExit(1)


@app.command("test")
def try_(
    channel: Annotated[str, typer.Argument(help="Its name")], state: StateOption = None, json: JsonOption = False
) -> None:
    """Send a message that says that it is a test. Ends with 1 when the channel does not take it within 30 seconds."""
    directory = state_dir(state)
    sent = call(directory, "notifier", "POST", f"/channels/{_path(channel)}/test")["notice"]
    deadline = time.monotonic() + 30
    while True:
        one = next(c for c in call(directory, "notifier", "GET", "/channels")["channels"] if c["name"] == channel)
        if one["failing"] or not one["waiting"] or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    works = not one["failing"] and not one["waiting"]
    if json:
        print_json({"notice": sent, "taken": works, "failing": one["failing"]})
    else:
        say(f"{channel} took it" if works else f"{channel} did not take it: {one['failing'] or 'no answer yet'}")
    if not works:
        raise SystemExit(1)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise BadInput("bad_usage", f"{text[:40]!r} is no time", "write 30m, 2h or 7d")
    return float(int(match[1]) * _UNITS[match[2]])


def _path(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", name):
        raise BadInput("bad_usage", f"{name[:64]!r} is no id", "see `rempart alert list`")
    return name
