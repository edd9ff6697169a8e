"""`rempart run NAME -- COMMAND…`: become the declared client NAME, then execute the command in this very process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

from .control import ask, connect, not_running
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_OURS = ("REMPART_", "SPIFFE_", "LISTEN_")


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A [[client]] of rempart.toml")],
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after --")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a command as a declared client workload."""
    import shutil

    from rempart.servers.spawn import Ids, Launch, launcher, memory_file

    directory = state_dir(state)
    command = command[1:] if command[0] == "--" else command
    if not command:
        raise BadInput("no_program", "no command was given", "write it after --")
    with connect(directory) as connection:
        answer = next(ask(connection, {"op": "adopt", "name": name, "cwd": os.getcwd()}), None)
    if answer is None:
        raise not_running(directory)
    spec = dict(answer["launch"])
    env = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)} | spec["env"]
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        raise BadInput("no_program", f"the program {command[0]!r} is not there or not executable")
    ids = Ids(**spec["ids"]) if spec["ids"] else None
    launch = Launch(
        argv=(os.path.abspath(program), *command[1:]),
        env=env,
        cwd=os.getcwd(),
        umask=spec["umask"],
        ids=ids,
        view=spec["view"],
    )
    memory = memory_file("launch", launch.document())
    os.set_inheritable(memory, True)
    argv = [*launcher(), str(memory)]
    os.execve(argv[0], argv, {})  # nosec B606 - becoming the command is what this verb does
