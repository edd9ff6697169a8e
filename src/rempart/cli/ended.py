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


def run(*, status: int, failed: str = "") -> NoReturn:
    """`failed` is its report of why, a line of JSON. Raises that, else Unavailable `supervisor_died`."""
    if failed:
        raise failure(json.loads(failed)["failed"])
    raise Unavailable("supervisor_died", f"the supervisor ended with {status}", "start again: it recovers by itself")
