"""`rempart audit`: search, prove and verify the record."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput, NotFound

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
from .audit_sinks import reindex, sinks
from .output import print_json, print_table, say, shown_time
from .proofs import cosigners, flat, read_file, verify_one
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)
for command in (tail, export, sinks, reindex):
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
    """Events, newest first: who, what, when, from where, outcome."""
    asked = given(person, workload, type, since, until, decision, rule, path, text)
    events: list[dict[str, Any]] = []
    following: int | None = None
    for page in pages(state_dir(state), asked, limit):
        events += page["events"]
        following = page["next"]
    if json:
        print_json({"events": events, "next": following})
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
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check a proof, or the whole log on disk. Needs no running system, and for a proof with --key no state either."""
    from rempart.audit.verifier import Key, VerificationError

    try:
        verifier_key = Key.parse(read_file(key or _published_key(state_dir(state)), "the verifier key").decode("utf-8"))
    except (VerificationError, UnicodeDecodeError) as error:
        raise BadInput("bad_verifier_key", str(error), "use log.vkey as the sequencer published it") from None
    if proof is not None:
        verify_one(proof, verifier_key, cosigners(witness or [], quorum), as_json=json)
    else:
        _verify_log(state_dir(state), verifier_key, as_json=json)


@app.command()
def checkpoint(state: StateOption = None, json: JsonOption = False) -> None:
    """The newest signed checkpoint (a C2SP note): keep it elsewhere to notice a log that was rewound."""
    found = call(state_dir(state), "sequencer", "GET", "/checkpoint.json")
    if json:
        print_json(found)
    else:
        sys.stdout.write(found["checkpoint"])


# -- asking ----------------------------------------------------------------------------------------------------------


# -- verifying -------------------------------------------------------------------------------------------------------


def _published_key(state: Path) -> Path:
    path = state / "data" / "sequencer" / "log.vkey"
    if not path.exists():
        raise BadInput("no_verifier_key", f"{path} is not there", "name the key with --key, or the state with --state")
    return path


def _verify_log(state: Path, key: Any, *, as_json: bool) -> None:
    from rempart.audit.whole_log import verify_log
    from rempart.crypto.signing import verify_ed25519

    log = state / "data" / "sequencer" / "log"
    if not log.is_dir():
        remedy = "name the state with --state; read a log in PostgreSQL or S3 with `rempart audit monitor URL --once`"
        raise NotFound("no_log", f"{log} is not there", remedy)
    memory = _Memory(state, key)
    report = verify_log(log, key, verify_ed25519, memory.heads())
    if report.problems and memory.is_growing():  # what was read of a growing log may be of two moments: look again
        report = verify_log(log, key, verify_ed25519, memory.heads())
    problems = [*memory.problems, *report.problems]
    document: dict[str, Any] = {
        "size": report.size,
        "root": base64.b64encode(report.root).decode(),
        "ok": not problems,
    }
    if problems:
        document["problems"] = problems
    else:
        memory.remember(report.checkpoint)
    if as_json:
        print_json(document)
    else:
        print_table(("size", "root", "ok"), [(document["size"], document["root"], "yes" if not problems else "NO")])
    for problem in problems:
        say(f"wrong: {problem}")
    if problems:
        raise SystemExit(1)


class _Memory:
    """The checkpoint of the last verification that found nothing wrong, and the one the sequencer committed last.

    Kept outside the log, so that a log set back as a whole to an older, validly signed state is noticed.
    """

    def __init__(self, state: Path, key: Any) -> None:
        self._path = state / "verified-checkpoint"
        self._committed = state / "data" / "sequencer" / "state"
        self._key = key
        self._seen = 0
        self.problems: list[str] = []

    def is_growing(self) -> bool:
        """Whether the sequencer committed something since `heads` was called, or does within half a second."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self._committed.stat().st_mtime_ns != self._seen:
                    return True
            time.sleep(0.05)
        return False

    def heads(self) -> list[Any]:
        """Signed sizes and roots that the log must contain."""
        from rempart.audit.verifier import VerificationError, open_checkpoint
        from rempart.crypto.signing import verify_ed25519

        self.problems = []
        notes: list[tuple[Path, str]] = []
        with contextlib.suppress(FileNotFoundError):
            notes.append((self._path, self._path.read_text("utf-8")))
        try:
            self._seen = self._committed.stat().st_mtime_ns
            body = self._committed.read_bytes().split(b"\n")[0]
            notes.append((self._committed, json.loads(body)["checkpoint"]))
        except FileNotFoundError:
            self.problems.append(f"{self._committed}: missing")
        except (ValueError, KeyError, TypeError):
            self.problems.append(f"{self._committed}: is not what the sequencer wrote")
        heads = []
        for path, note in notes:
            refused: list[str] = []
            for key in self._keys():  # a note of before a rotation is signed by a key of then
                try:
                    heads.append(open_checkpoint(note, key, verify_ed25519))
                    break
                except VerificationError as error:
                    refused.append(f"{path}: {error}")
            else:
                self.problems.append(refused[0])
        return heads

    def _keys(self) -> list[Any]:
        """The one given, then past ones of the same log, as the sequencer published them."""
        from rempart.audit.verifier import Key, VerificationError

        keys = [self._key]
        with contextlib.suppress(OSError, VerificationError):
            past = (self._committed.parent / "log.vkeys").read_text("utf-8").splitlines()
            keys += [key for key in map(Key.parse, reversed(past)) if key.origin == self._key.origin]
        return keys

    def remember(self, note: str) -> None:
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_text(note, "utf-8")
            os.replace(temporary, self._path)
        except OSError as error:
            say(f"the checkpoint could not be remembered in {self._path}: {error.strerror}")


for _command in (monitor, erase, prune, hold, holds):
    app.command()(_command)
