"""What a foreground command says when its supervisor ended by itself."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from rempart.kernel.errors import RempartError, Unavailable


def failure(told: dict[str, Any]) -> RempartError:
    """The error that a supervisor reported."""
    error = RempartError(told["code"], told["reason"], told["remedy"])
    error.exit_code = told["exit"]  # type: ignore[misc]  # the class's own, for this one instance
    return error


def run(*, status: int, said: str) -> NoReturn:
    """Raises what it reported last, else Unavailable `supervisor_died`."""
    for line in said.split("\n"):
        if line.startswith('{"failed"'):
            raise failure(json.loads(line)["failed"])
    raise Unavailable("supervisor_died", f"the supervisor ended with {status}", "start again: it recovers by itself")
