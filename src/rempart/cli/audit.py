"""`rempart audit`: search, prove and verify the record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput

from .audit_events import (
    COLUMNS,
    Decision,
    PathOption,
    Person,
    Rule,
    Since,
    Text,
    Type,
    Until,
    Workload,
    cells,
    given,
    pages,
)
from .audit_export import export
from .audit_follow import tail
from .audit_keeping import erase, hold, holds, prune
from .audit_monitor import monitor
from .audit_record import record
from .audit_sinks import reindex, sinks
from .audit_verify import published_key, verify_whole
from .output import print_json, print_table, say, shown_time
from .proofs import cosigners, flat, read_file, verify_one
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)
for command in (tail, export, record, sinks, reindex):
    app.command()(command)

Limit = Annotated[int, typer.Option(min=1, help="How many, newest first")]


@app.command()
def search(
    person: Person = None,
    workload: Workload = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    decision: Decision = None,
    rule: Rule = None,
    path: PathOption = None,
    text: Text = None,
    limit: Limit = 100,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Events, newest first: who, what, when, from where, outcome. All that was recorded until now is looked through."""
    asked = given(person, workload, type, since, until, decision, rule, path, text) | {"fresh": "1"}
    events: list[dict[str, Any]] = []
    following: int | None = None
    fresh = True
    for page in pages(state_dir(state), asked, limit):
        events += page["events"]
        following, fresh = page["next"], fresh and page.get("fresh", True)
    if not fresh:
        say("the newest events can't be found yet: the log or its index is behind, see `rempart status`")
    if json:
        print_json({"events": events, "next": following, "fresh": fresh})
        return
    print_table(COLUMNS, [cells(event) for event in events])
    if following is not None:
        say(f"there are more: raise --limit from {limit}")


@app.command()
def show(id: str, state: StateOption = None, json: JsonOption = False) -> None:
    """One event in full, by its id, its decision's id or its request's id."""
    found = call(state_dir(state), "sequencer", "GET", f"/events/{quote(id, safe='')}")
    if json:
        print_json(found)
        return
    own = found["event"]["unmapped"]["rempart"]
    rows: list[tuple[str, object]] = [("index", found["index"]), ("time", shown_time(own["at"] / 1000))]
    rows += [(name, flat(value)) for name, value in own.items() if name not in ("at", "details")]
    rows += [(f"details.{name}", flat(value)) for name, value in own.get("details", {}).items()]
    print_table(("field", "value"), rows)
    if found["related"]:
        say("\nof the same request:")
        print_table(COLUMNS, [cells(event) for event in found["related"]])


@app.command()
def prove(
    id: str,
    witnessed: Annotated[
        bool, typer.Option("--witnessed", help="Against the last checkpoint that witnesses cosigned")
    ] = False,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """A proof that the event is in the log, for `rempart audit verify` anywhere. It is always JSON."""
    query = "?witnessed=1" if witnessed else ""
    print_json(call(state_dir(state), "sequencer", "GET", f"/proofs/{quote(id, safe='')}{query}"))


@app.command()
def witnesses(state: StateOption = None, json: JsonOption = False) -> None:
    """How far witnesses have cosigned the log, and what hinders each."""
    document = call(state_dir(state), "sequencer", "GET", "/witnesses")
    if json:
        print_json(document)
        return
    say(f"{document['size']} events are witnessed")
    print_table(("witness", "now"), [(name, why or "cosigns") for name, why in document["witnesses"].items()])


@app.command()
def verify(
    proof: Annotated[Path | None, typer.Argument(help="A proof from `audit prove`; without one, the whole log")] = None,
    key: Annotated[Path | None, typer.Option(help="The log's verifier key; default: the one in the state")] = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option(help="A witness's key: the proof's checkpoint must be cosigned; may be repeated"),
    ] = None,
    quorum: Annotated[int | None, typer.Option(help="How many of the witnesses must have; default: all")] = None,
    application: Annotated[
        Path | None,
        typer.Option("--app", help="The application whose rempart.toml says where the log is: PostgreSQL or S3"),
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check a proof, or the whole log where it is kept. Needs no running system; for a proof with --key, no state."""
    from rempart.audit.verifier import Key, VerificationError

    try:
        verifier_key = Key.parse(read_file(key or published_key(state_dir(state)), "the verifier key").decode("utf-8"))
    except (VerificationError, UnicodeDecodeError) as error:
        raise BadInput("bad_verifier_key", str(error), "use log.vkey as the sequencer published it") from None
    if proof is not None:
        verify_one(proof, verifier_key, cosigners(witness or [], quorum), as_json=json)
    else:
        verify_whole(state_dir(state), verifier_key, application, as_json=json)


@app.command()
def checkpoint(state: StateOption = None, json: JsonOption = False) -> None:
    """The newest signed checkpoint (a C2SP note): keep it elsewhere to notice a log that was rewound."""
    found = call(state_dir(state), "sequencer", "GET", "/checkpoint.json")
    if json:
        print_json(found)
    else:
        sys.stdout.write(found["checkpoint"])


# -- asking ----------------------------------------------------------------------------------------------------------


for _command in (monitor, erase, prune, hold, holds):
    app.command()(_command)
