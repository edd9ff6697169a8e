"""`rempart entry apply|list|show|delete`: SPIFFE registration entries, for the operator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)
MAX_BYTES = 1 << 20
NameArgument = Annotated[str, typer.Argument(help="Entry id or SPIFFE ID", show_default=False)]


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="YAML; - for stdin", show_default=False)],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create and change entries as the file says. Applying it again changes nothing; what it doesn't name stays."""
    try:
        text = sys.stdin.read(MAX_BYTES + 1) if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadInput("unreadable_file", f"{file} can't be read: {why}", "name a YAML file") from None
    if len(text) > MAX_BYTES:
        raise BadInput("bad_entries", f"{file} is larger than {MAX_BYTES} bytes", "split it")
    answer = call(state_dir(state), "identity", "POST", "/entries", {"yaml": text, "name": str(file)})
    if as_json:
        print_json(answer)
        return
    for what in ("created", "changed", "unchanged"):
        for entry in answer[what]:
            print(f"{what:9}  {entry['spiffe_id']}  {', '.join(entry['selectors'])}")


@app.command(name="list")
def list_(state: StateOption = None, as_json: JsonOption = False) -> None:
    """All entries: those of rempart.toml, then the applied ones."""
    _show(call(state_dir(state), "identity", "GET", "/entries"), as_json)


@app.command()
def show(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """The entries of an id."""
    _show(call(state_dir(state), "identity", "GET", f"/entries/{quote(name, safe='')}"), as_json)


@app.command()
def delete(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Delete applied entries; the streams of who had that identity end at once."""
    answer = call(state_dir(state), "identity", "DELETE", f"/entries/{quote(name, safe='')}")
    if as_json:
        print_json(answer)
    else:
        say("deleted " + ", ".join(entry["id"] for entry in answer["deleted"]))


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            entry["id"],
            entry["spiffe_id"],
            " ".join(entry["selectors"]),
            entry["ttl"] or "default",
            rfc3339(entry["expires_at"]) if entry["expires_at"] else "",
        )
        for entry in answer["entries"]
    ]
    print_table(["id", "SPIFFE ID", "selectors", "ttl", "expires"], rows)
