"""`rempart server run`: identities for the agents of other hosts, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

from .state import JsonOption, StateOption, state_dir
from .stay import stay

app = typer.Typer(no_args_is_help=True, help="Sign for the agents of other hosts")


@app.callback()
def about() -> None:
    """`rempart up` is a server, too, where `[workloads.agents]` of rempart.toml says so."""


@app.command()
def run(
    app_dir: Annotated[
        Path | None, typer.Argument(help="Directory with a rempart.toml, of which [workloads] and [audit] count")
    ] = None,
    trust_domain: Annotated[str, typer.Option(help="Instead of a rempart.toml")] = "",
    listen: Annotated[str | None, typer.Option(help="Where agents reach it; default 0.0.0.0:8081")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready")] = False,
    profile: Annotated[str, typer.Option(help="dev or production")] = "dev",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a trust domain: its authority, registration entries, the agents' port, and the record.

    `rempart entry`, `bundle`, `agent`, `keys`, `audit`, `status`, `logs` and `down` work as with `rempart up`.
    """
    if (app_dir is None) == (not trust_domain):
        raise BadInput("bad_usage", "name a directory with a rempart.toml, or --trust-domain", "give one of the two")
    stay(
        "staying_server",
        app_dir=app_dir,
        trust_domain=trust_domain,
        listen=listen,
        detach=detach,
        profile=profile,
        state=state_dir(state),
        as_json=as_json,
    )
