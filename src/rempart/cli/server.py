"""`rempart server run`: identities for the agents of other hosts, and nothing else."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput, Unavailable

from .output import print_json, say
from .state import JsonOption, StateOption, state_dir
from .supervised import follow_start, interrupt, stop, wait

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
    from rempart.servers.host import Request, fork_supervisor, prepare
    from rempart.wiring.check import parse_address
    from rempart.wiring.server_settings import server_settings

    if (app_dir is None) == (not trust_domain):
        raise BadInput("bad_usage", "name a directory with a rempart.toml, or --trust-domain", "give one of the two")
    began = time.monotonic()
    settings = server_settings(app_dir, trust_domain, parse_address(listen) if listen else None)
    prepared = prepare(Request(state=state_dir(state), settings=settings, profile=profile))
    pid, reports = fork_supervisor(prepared, detach=detach)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with SIGINT ignored
        signal.signal(number, interrupt)
    with open(reports, "rb", buffering=0) as lines:
        ready = False
        try:
            status = follow_start(lines, began)
            ready = True
            if as_json:
                print_json(status)
            else:
                say(f"ready: agents of {settings.trust_domain} reach this server at {status['agents']}")
            if detach:
                return
            ended = wait(pid, lines)
        except KeyboardInterrupt:
            say("stopping …")
            ended = stop(pid)
            say("stopped")
            if not ready:
                raise
    if ended != 0:
        raise Unavailable("supervisor_died", f"the supervisor ended with {ended}", "start again: it recovers by itself")
