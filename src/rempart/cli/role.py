"""`rempart role`: the roles that accounts can have. They are declared in rempart.toml, beside the policy they serve."""

from __future__ import annotations

from typing import Any

import typer

from rempart.kernel.errors import NotFound

from .output import print_json, print_table
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="Roles: built-in ones and the application's own")


@app.command("list")
def list_roles(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Every role, its permissions, and whom it administers."""
    document = call(state_dir(state), "people", "GET", "/roles")
    if as_json:
        print_json(document)
    else:
        _table(document["roles"])


@app.command()
def show(role: str, state: StateOption = None, as_json: JsonOption = False) -> None:
    """One role."""
    roles = call(state_dir(state), "people", "GET", "/roles")["roles"]
    found = [one for one in roles if one["name"] == role]
    if not found:
        raise NotFound(
            "no_such_role", f"there is no role {role!r}", "see `rempart role list`; declare it in rempart.toml"
        )
    if as_json:
        print_json(found[0])
    else:
        _table(found)


def _table(roles: list[dict[str, Any]]) -> None:
    rows = [[one["name"], " ".join(one["permissions"]), " ".join(one["manages"])] for one in roles]
    print_table(("role", "permissions", "manages"), rows)
