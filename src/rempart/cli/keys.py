"""`rempart keys`: the keys that sign access tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from .output import print_json, print_table
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="Signing keys: list and rotate")


@app.command("list")
def list_keys(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The ring: next → active → verify-only → retired."""
    _print(call(state_dir(state), "people", "GET", "/keys"), as_json)


@app.command()
def rotate(
    retire_now: Annotated[
        str | None, typer.Option("--retire-now", metavar="KID", help="This key leaked: refuse its tokens from now on")
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign with the next key; the old one verifies until its last token has expired, so nobody is logged out."""
    body = {} if retire_now is None else {"retire_now": retire_now}
    _print(call(state_dir(state), "people", "POST", "/keys/rotate", body), as_json)


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    print_table(
        ("kid", "algorithm", "state", "created", "signs since", "until"),
        [
            [
                key["kid"],
                key["algorithm"],
                key["state"],
                *(_time(key[at]) for at in ("created_at", "activated_at", "retires_at")),
            ]
            for key in document["keys"]
        ],
    )


def _time(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}" if seconds else ""
