"""`rempart server run`: identities for the agents of other hosts, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, say
from .state import JsonOption, StateOption, state_dir
from .supervised import attend

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
    from rempart.servers.host import Request, prepare
    from rempart.wiring.check import parse_address
    from rempart.wiring.server_settings import server_settings

    if (app_dir is None) == (not trust_domain):
        raise BadInput("bad_usage", "name a directory with a rempart.toml, or --trust-domain", "give one of the two")
    began = time.monotonic()
    settings = server_settings(app_dir, trust_domain, parse_address(listen) if listen else None)
    prepared = prepare(Request(state=state_dir(state), settings=settings, profile=profile))

    def tell(status: dict[str, Any]) -> None:
        if as_json:
            print_json(status)
        else:
            say(f"ready: agents of {settings.trust_domain} reach this server at {status['agents']}")

    attend(prepared, began, detach=detach, tell=tell)
