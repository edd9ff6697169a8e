"""How events are asked for and shown: `rempart audit search|tail|export` share these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from .output import printable
from .state import call

Person = Annotated[str | None, typer.Option(help="A person's id")]
Workload = Annotated[str | None, typer.Option(help="A SPIFFE ID")]
Type = Annotated[str | None, typer.Option(help="A type of event, or a group such as `money.`")]
Since = Annotated[str | None, typer.Option(help="RFC 3339, or how long ago: 15m, 2h, 1d")]
Until = Annotated[str | None, typer.Option(help="As --since; that moment itself is left out")]
Decision = Annotated[str | None, typer.Option(help="allow or deny")]
Rule = Annotated[str | None, typer.Option(help="The rule that decided")]
PathOption = Annotated[str | None, typer.Option("--path", help="The request's path; /wallet* is a prefix")]
Text = Annotated[
    str | None, typer.Option(help="Words that stand in reason, path, address, role or service; fund* begins one")
]
PAGE = 1000
COLUMNS = ("index", "time", "type", "outcome", "who", "what", "why", "id")
_SHADES = {"high": "bold red", "critical": "bold white on red", "medium": "yellow"}


def given(
    person: str | None,
    workload: str | None,
    type: str | None,
    since: str | None,
    until: str | None,
    decision: str | None,
    rule: str | None,
    path: str | None,
    text: str | None,
) -> dict[str, str]:
    """The parameters of `/search`."""
    named = {"person": person, "workload": workload, "type": type, "since": since, "until": until}
    named |= {"decision": decision, "rule": rule, "path": path, "text": text}
    return {name: value for name, value in named.items() if value is not None}


def pages(state: Path, parameters: dict[str, str], limit: int) -> Iterator[dict[str, Any]]:
    """Pages of events until there are `limit` or no more; at least one page. `fresh` counts for the first."""
    before: int | None = None
    while True:
        asked = {**parameters, "limit": str(min(limit, PAGE))}
        if before is not None:
            asked["before"] = str(before)
            asked.pop("fresh", None)
        page: dict[str, Any] = call(state, "sequencer", "GET", f"/search?{urlencode(asked)}")
        limit -= len(page["events"])
        before = page["next"]
        yield page
        if before is None or limit <= 0:
            return


def cells(event: dict[str, Any]) -> tuple[str, ...]:
    """As COLUMNS says. What outsiders wrote can't move the cursor of a terminal or begin a line of its own."""
    who = [event.get(name) for name in ("person", "workload", "operator", "ip")]
    what = [event.get("method"), event.get("path")] if event.get("method") else [event.get("service")]
    found = (
        event["index"],
        event["time"],
        event["type"],
        "yes" if event["success"] else "no",
        next((word for word in who if word), ""),
        " ".join(str(word) for word in what if word),
        event.get("reason") or event.get("rule") or "",
        event["id"],
    )
    return tuple(printable(str(cell)) for cell in found)


def shade(event: dict[str, Any]) -> str:
    """A rich style for the event's line."""
    if event.get("severity") in _SHADES:
        return _SHADES[event["severity"]]
    return "" if event["success"] else "red"
