"""`rempart audit record`: what a deployment pipeline or a vault did, told by whoever operates Rempart."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput
from rempart.kernel.ids import new_id

from .output import print_json, say
from .state import JsonOption, StateOption, call, state_dir

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})")


def record(
    type: Annotated[str, typer.Argument(help="delivery.deployment, delivery.scan, secrets.read, secrets.changed, …")],
    details: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="release=wallet environment=production")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Of the same fact always the same: it is kept once")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="It was refused, or went wrong")] = False,
    reason: Annotated[str, typer.Option(help="Why, in words")] = "",
    person: Annotated[str | None, typer.Option(help="The id of the person who did it")] = None,
    workload: Annotated[str | None, typer.Option(help="The SPIFFE ID of the workload that did it")] = None,
    before: Annotated[str | None, typer.Option(help="A JSON object: what was so before")] = None,
    after: Annotated[str | None, typer.Option(help="A JSON object: what is so now")] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Record what happened outside of Rempart: a deployment, a scan, the use of a secret. Durable when it returns."""
    event: dict[str, Any] = {"id": id or new_id("evt"), "type": type, "at": time.time(), "success": not failed}
    event |= {"reason": reason, "details": dict(_pair(text) for text in details or [])}
    given = {"person": person, "workload": workload, "before": _object(before), "after": _object(after)}
    event |= {name: value for name, value in given.items() if value is not None}
    call(state_dir(state), "sequencer", "POST", "/events", {"events": [event]})
    if json:
        print_json({"id": event["id"]})
    else:
        say(f"recorded as {event['id']}")


def _pair(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput("bad_detail", f"{text[:80]!r} is no NAME=VALUE", "write release=wallet")
    return name, int(value) if _NUMBER.fullmatch(value) else value


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    found = strict_json.loads(text.encode("utf-8", "replace"))
    if not isinstance(found, dict):
        raise BadInput("bad_document", f"{text[:80]!r} is no JSON object", 'write {"replicas": 3}')
    return found
