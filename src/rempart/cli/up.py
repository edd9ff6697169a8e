"""`rempart up`: start an application behind Rempart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .state import JsonOption, StateOption, state_dir
from .stay import stay

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def up(
    app_dir: Annotated[Path, typer.Argument(help="Directory with a rempart.toml")] = Path("."),
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready")] = False,
    profile: Annotated[str, typer.Option(help="dev or production")] = "dev",
    state: StateOption = None,
    listen: Annotated[str | None, typer.Option(help="Where the gateway listens; port 0: any free one")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Play the flows once when ready")] = False,
    unsafe_disable: Annotated[
        list[str] | None, typer.Option(help="Switch one control off (dev only), to prove that attacks notice")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start an application behind Rempart."""
    stay(
        "staying_app",
        app_dir=app_dir,
        detach=detach,
        profile=profile,
        state=state_dir(state),
        listen=listen,
        demo=demo,
        unsafe_disabled=unsafe_disable or [],
        as_json=as_json,
    )
