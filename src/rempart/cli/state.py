"""Where the state directory is, and how a command reaches the processes of the running system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import OF_STATUS, RempartError, Unavailable

StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="State directory; default $REMPART_STATE, else ./.rempart", show_default=False),
]
_WANTED_BY = {
    "shipper": "an [[audit.sink]]",
    "notifier": "an [[alerting.channel]]",
    "models": "`models = true` in [detection]",
}
"""Processes that run only where rempart.toml says so, and what says so."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout")]


def state_dir(option: Path | None) -> Path:
    return (option or Path(os.environ.get("REMPART_STATE") or ".rempart")).absolute()


def call(
    state: Path, process: str, method: str, path: str, body: Any = None, *, timeout: float = 30.0, socket: str = ""
) -> Any:
    """Ask a process on its admin socket (`run/admin/{process}.sock`, or `socket`) and return the JSON it answers.

    Raises the RempartError that the process's problem document stands for, or Unavailable `not_running`.
    """
    path_to_socket = state / (socket or f"run/admin/{process}.sock")
    try:
        path_to_socket.stat()  # httpx would leave a socket open that can't be connected to
    except OSError as error:
        if process in _WANTED_BY and (state / "run" / "control.sock").exists():
            why = f"nothing in this application's rempart.toml asks for the process {process}"
            raise Unavailable("not_configured", why, f"add {_WANTED_BY[process]}, and start again") from None
        raise Unavailable(
            "not_running",
            f"no answer from {process} in {state}: {error.strerror}",
            "start it with `rempart up`, or name --state",
        ) from None
    import httpx

    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path_to_socket)), timeout=timeout) as client:
            response = client.request(method, f"http://{process}{path}", json=body)
    except httpx.TransportError as error:
        raise Unavailable(
            "not_running",
            f"no answer from {process} in {state}: {error}",
            "start it with `rempart up`, or name --state",
        ) from None
    if response.is_success:
        return response.json() if response.content else None
    try:
        document = response.json()
        kind = OF_STATUS.get(response.status_code, RempartError)
        raise kind(document["code"], document["detail"], document.get("remedy", ""))
    except (ValueError, KeyError, TypeError):
        raise RempartError("bad_answer", f"{process} answered {response.status_code}", "see `rempart logs`") from None
