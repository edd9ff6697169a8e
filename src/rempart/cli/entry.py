"""`rempart entry apply|import|list|show|delete`: SPIFFE registration entries, for the operator."""

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
MAX_SPIRE_BYTES = 16 << 20
MAX_FILES = 1000
_SUFFIXES = (".yaml", ".yml", ".json")
_SIGNS = {"created": "+", "changed": "~", "removed": "-"}

NameArgument = Annotated[str, typer.Argument(help="Entry id or SPIFFE ID", show_default=False)]
PruneOption = Annotated[bool, typer.Option("--prune", help="Delete applied entries that the files don't name")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would change; exit code 1 when something would")
]


@app.command()
def apply(
    path: Annotated[Path, typer.Argument(help="YAML file, a directory of them, or - for stdin", show_default=False)],
    prune: PruneOption = False,
    dry_run: DryRunOption = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the entries what the files say, all or nothing. Applying them again changes nothing.

    What the files don't name stays, unless --prune.
    """
    _apply({"files": _files(path)}, prune, dry_run, state, as_json)


@app.command(name="import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="spire", help="What the file comes from")],
    file: Annotated[Path, typer.Argument(help="Output of `spire-server entry show -output json`; - for stdin")],
    parent: Annotated[str, typer.Option(help="SPIFFE ID of the SPIRE agent that this host stands for")] = "",
    dry_run: DryRunOption = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over another system's entries. What can't be taken over is named, and then the exit code is 1."""
    from rempart.workloads.spire_entries import convert

    if format_ != "spire":
        raise BadInput("bad_format", f"{format_[:80]!r} can't be imported", "write `rempart entry import spire FILE`")
    converted = convert(_read(file, MAX_SPIRE_BYTES), parent=parent)
    for name, why in converted.skipped:
        say(f"skipped {name}: {why}")
    if converted.entries:
        _apply({"entries": list(converted.entries)}, False, dry_run, state, as_json)
    if converted.skipped:
        raise SystemExit(1)


@app.command(name="list")
def list_(state: StateOption = None, as_json: JsonOption = False) -> None:
    """All entries: those of rempart.toml, then the applied ones."""
    _show(call(state_dir(state), "identity", "GET", "/entries"), as_json)


@app.command()
def show(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """The entries of an id, with all there is to know of each."""
    answer = call(state_dir(state), "identity", "GET", f"/entries/{quote(name, safe='')}")
    if as_json:
        print_json(answer)
        return
    for number, entry in enumerate(answer["entries"]):
        if number:
            print()
        _print_entry(entry)


@app.command()
def delete(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Delete applied entries; the streams of who had that identity end at once."""
    answer = call(state_dir(state), "identity", "DELETE", f"/entries/{quote(name, safe='')}")
    if as_json:
        print_json(answer)
    else:
        say("deleted " + ", ".join(entry["id"] for entry in answer["deleted"]))


def _print_entry(entry: dict[str, Any]) -> None:
    rights = [name for name in ("admin", "downstream") if entry[name]]
    rows = (
        ("SPIFFE ID", entry["spiffe_id"]),
        ("id", entry["id"] + (", from rempart.toml" if entry["fixed"] else "")),
        ("parent", entry["parent_id"] or "this host"),
        *(("selector", selector) for selector in entry["selectors"]),
        ("X.509-SVID lives", f"{entry['ttl']} s" if entry["ttl"] else "svid_ttl of rempart.toml"),
        ("JWT-SVID lives", f"{entry['jwt_ttl']} s" if entry["jwt_ttl"] else "300 s"),
        *(("DNS name", name) for name in entry["dns_names"]),
        *(("federates with", name) for name in entry["federates_with"]),
        *(("may", name) for name in rights),
        *((("hint", entry["hint"]),) if entry["hint"] else ()),
        ("expires", rfc3339(entry["expires_at"]) if entry["expires_at"] else "never"),
    )
    for name, value in rows:
        print(f"{name:<17} {value}")


def _files(path: Path) -> list[dict[str, str]]:
    """Of a directory every YAML and JSON file in it and below, in the order of their names; hidden ones are not."""
    if str(path) == "-" or not path.is_dir():
        return [{"name": str(path), "yaml": _read(path, MAX_BYTES)}]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix in _SUFFIXES and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not 0 < len(files) <= MAX_FILES:
        raise BadInput("no_entries", f"{path} holds {len(files)} files of entries", "put 1 to 1000 *.yaml files there")
    return [{"name": str(file), "yaml": _read(file, MAX_BYTES)} for file in files]


def _read(file: Path, most: int) -> str:
    try:
        text = sys.stdin.read(most + 1) if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadInput("unreadable_file", f"{file} can't be read: {why}", "name a YAML file") from None
    if len(text) > most:
        raise BadInput("bad_entries", f"{file} is larger than {most} bytes", "split it")
    return text


def _apply(wanted: dict[str, Any], prune: bool, dry_run: bool, state: Path | None, as_json: bool) -> None:
    body = {**wanted, "prune": prune, "dry_run": dry_run}
    answer = call(state_dir(state), "identity", "POST", "/entries", body, timeout=120.0)
    if as_json:
        print_json(answer)
    else:
        _print_plan(answer)
    if dry_run and any(answer[what] for what in _SIGNS):
        raise SystemExit(1)


def _print_plan(answer: dict[str, Any]) -> None:
    for what, sign in _SIGNS.items():
        for entry in answer[what]:
            print(f"{sign} {entry['spiffe_id']}  {', '.join(entry['selectors'])}")
            for name, before in entry.get("before", {}).items():
                print(f"    {name}: {before!r} → {entry[name]!r}")
    counts = ", ".join(f"{len(answer[what])} {what}" for what in (*_SIGNS, "unchanged"))
    print(("would be: " if answer["dry_run"] else "") + counts)


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            entry["id"],
            entry["spiffe_id"],
            " ".join(entry["selectors"]),
            f"{entry['ttl'] or 'default'}" + (f"/{entry['jwt_ttl']}" if entry["jwt_ttl"] else ""),
            " ".join(name for name in ("admin", "downstream") if entry[name]),
            entry["hint"],
            rfc3339(entry["expires_at"]) if entry["expires_at"] else "",
        )
        for entry in answer["entries"]
    ]
    print_table(["id", "SPIFFE ID", "selectors", "ttl", "may", "hint", "expires"], rows)
