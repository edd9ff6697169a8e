"""`rempart user breached-list`: passwords that nobody may choose because they were stolen elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, say
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(no_args_is_help=True, help="Passwords that were stolen elsewhere")


@app.command("import")
def bring_in(
    file: Annotated[Path, typer.Argument(help="A file of SHA1:COUNT lines, or a directory of ranges", metavar="FILE")],
    least_count: Annotated[int, typer.Option("--least-count", help="Leave out what was seen less often")] = 1,
    odds: Annotated[int, typer.Option("--odds", help="One wrong yes in so many passwords")] = 1000,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the offline list of a breach corpus; it counts from the next password that somebody chooses."""
    from rempart.people.breach_corpus import hashes
    from rempart.people.password_list import BREACHED, write_list

    directory = state_dir(state) / "data" / "people"
    if not directory.is_dir():
        raise BadInput("no_people", "there are no people in this state directory", "start it once with `rempart up`")
    count = sum(1 for _ in hashes(file, least_count))
    if not count:
        raise BadInput("bad_breach_corpus", f"there is no hash in {file.name}", "give a file of SHA1:COUNT lines")
    path = directory / BREACHED
    entries = write_list(path, hashes(file, least_count), count, odds)
    for other in sorted(directory.parent.glob("people-[2-9]")):  # each instance reads its own
        write_list(other / BREACHED, hashes(file, least_count), count, odds)
    if as_json:
        print_json({"entries": entries, "odds": odds, "bytes": path.stat().st_size})
    else:
        say(f"{entries} passwords in {path.stat().st_size} bytes; one in {odds} others is refused, too")


@app.command()
def show(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What is in force."""
    from rempart.people.password_list import BREACHED, COMMON, about

    lists = {"common": COMMON, "breached": state_dir(state) / "data" / "people" / BREACHED}
    found = {name: about(path) for name, path in lists.items() if path.exists()}
    if as_json:
        print_json({name: {"entries": entries, "false_positive_rate": rate} for name, (entries, rate) in found.items()})
        return
    for name, (entries, rate) in found.items():
        say(f"{name}: {entries} passwords, false-positive rate {rate:.1e}")
