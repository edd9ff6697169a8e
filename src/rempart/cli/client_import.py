"""`rempart client import`: the clients of a Keycloak realm export; running it again changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import Conflict, RempartError, Unavailable

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir
from .user_import import read_text, realm_of


def import_clients(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A realm export (JSON), or the directory of `--dir`")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register the clients of a Keycloak realm with their ids, secrets and exact addresses. Those whose id is taken
    stay as they are. Exit code 1 when some could not be used."""
    from rempart.people.administration.keycloak_clients import read_clients

    done: list[dict[str, Any]] = []
    for found in read_clients(read_text(realm_of(file))):
        entry: dict[str, Any] = {"id": found.name, "outcome": "refused", "notes": list(found.notes)}
        if found.account is None:
            entry["error"] = found.error
        elif dry_run:
            entry["outcome"] = "would_be_created"
        else:
            entry |= _register(state_dir(state), found.account)
        done.append(entry)
    _report(done, as_json)
    if any(entry["outcome"] == "refused" for entry in done):
        raise SystemExit(1)


def _register(state: Path, body: dict[str, Any]) -> dict[str, Any]:
    try:
        made = call(state, "people", "POST", "/clients", body)
    except Conflict:
        return {"outcome": "exists"}
    except Unavailable:
        raise
    except RempartError as error:
        return {"outcome": "refused", "error": error.reason}
    return {"outcome": "created", **({"secret": made["secret"]} if "secret" in made else {})}


def _report(done: list[dict[str, Any]], as_json: bool) -> None:
    counts = Counter(entry["outcome"] for entry in done)
    if as_json:
        print_json({"clients": done, "counts": counts})
        return
    rows = [[entry.get(key) for key in ("id", "outcome", "secret", "error")] for entry in done]
    print_table(("client", "outcome", "new secret, shown only now", "error"), rows)
    for entry in done:
        for note in entry["notes"]:
            say(f"{entry['id']}: {note}")
    say(", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(counts.items())) or "nothing")
