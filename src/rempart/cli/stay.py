"""What `up`, `server run` and `agent run` do once their arguments are parsed: they stay, for months.

What parses arguments is 13 MB of a process. So those that were given are handed to a fresh interpreter in the same
process (execve(2): same pid, terminal and limits), which never loads it. They are paths, names and addresses: no
secrets.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, NoReturn

from rempart.kernel.errors import BadInput

_ARGUMENTS = "REMPART_ARGUMENTS"


def stay(module: str, /, **arguments: Any) -> NoReturn:
    """Run `run(**arguments)` of `rempart.cli.MODULE` in this command's place; the arguments have to fit into JSON."""
    told = json.dumps({"module": module, "arguments": arguments}, default=str)
    # -P: the directory that somebody happens to be in is no place to import from
    command = [sys.executable, "-P", "-m", __name__, *sys.argv[1:]]
    os.execve(command[0], command, {**os.environ, _ARGUMENTS: told})  # nosec B606 - our own interpreter and module


def _go_on(argv: list[str]) -> NoReturn:
    told = json.loads(os.environ.pop(_ARGUMENTS, "null"))
    if told is None:
        raise BadInput("bad_usage", "this is how a command goes on, none by itself", "see `rempart --help`")
    importlib.import_module(f"rempart.cli.{told['module']}").run(**told["arguments"])
    raise SystemExit(0)


if __name__ == "__main__":
    from rempart.cli.main import guarded

    guarded(_go_on, sys.argv[1:])
