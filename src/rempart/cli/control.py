"""How commands talk to the supervisor: JSON lines on `run/control.sock`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rempart.kernel.errors import RempartError, Unavailable


def not_running(state: Path) -> Unavailable:
    return Unavailable(
        "not_running", f"nothing runs in {state}", "start it with `rempart up`, or name the directory with --state"
    )


def connect(state: Path, timeout: float = 30.0) -> socket.socket:
    """A connection to the supervisor; raises Unavailable `not_running`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(state / "run" / "control.sock"))
    except OSError:
        connection.close()
        raise not_running(state) from None
    return connection


def ask(connection: socket.socket, question: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every line of the answer; raises the RempartError that the supervisor answers with."""
    connection.sendall(json.dumps(question).encode() + b"\n")
    with connection.makefile("rb") as lines:
        for line in lines:
            answer = json.loads(line)
            if "error" in answer and "code" in answer:
                error = RempartError(answer["code"], answer["error"], answer.get("remedy", ""))
                error.exit_code = answer.get("exit", 1)  # type: ignore[misc]  # the class's own, for this one instance
                raise error
            yield answer


def status(state: Path) -> dict[str, Any]:
    """The document of `rempart status --json`; raises Unavailable `not_running`."""
    with connect(state) as connection:
        try:
            return next(ask(connection, {"op": "status"}))
        except (StopIteration, TimeoutError, OSError):
            raise not_running(state) from None
