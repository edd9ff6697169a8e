"""The `rempart` command: finds the module of the verb and runs it; turns every error into words and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click
import typer
from typer.core import TyperGroup

from rempart.kernel.errors import BadInput, RempartError

from .output import fail

# verb → (module in this package, its `app`, what --help says). A module's app is a Typer: with one command for a verb, with several for a group.
VERBS: dict[str, tuple[str, str]] = {
    "up": ("up", "Start an application behind Rempart"),
    "down": ("down", "Stop everything that `up` started"),
    "status": ("status", "What runs, where, and what to know about it"),
    "logs": ("logs", "What the processes printed"),
    "run": ("run", "Run a command as a declared client workload"),
    "demo": ("demo", "Play the critical flows against the running system"),
    "attack": ("attack", "Attack the running system and report what stopped each attack"),
    "user": ("user", "People: accounts, roles, limits"),
    "entry": ("entry", "SPIFFE registration entries"),
    "svid": ("svid", "Identities of the calling workload"),
    "bundle": ("bundle", "Trust bundles"),
    "policy": ("policy", "Test, check, explain and reload policies"),
    "audit": ("audit", "Search, prove and verify the record"),
    "keys": ("keys", "Signing keys: list and rotate"),
}


class LazyGroup(TyperGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, about = VERBS[cmd_name]
        command = typer.main.get_command(importlib.import_module(f"rempart.cli.{module}").app)
        command.name = cmd_name
        command.help = command.help or about
        command.short_help = about
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, about) for verb, (_, about) in VERBS.items()])


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Zero trust for microservices: identify, decide, enforce, record, watch."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit codes: 0 yes · 1 the answer is no · 2 bad usage or input · 3 not running."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        raise SystemExit(typer.main.get_command(app).main(argv, prog_name="rempart", standalone_mode=False) or 0)
    except click.ClickException as error:
        fail(BadInput("bad_usage", error.format_message(), "see `rempart --help`"), as_json="--json" in argv)
    except click.Abort:
        raise SystemExit(130) from None
    except RempartError as error:
        fail(error, as_json="--json" in argv)
    except BrokenPipeError:
        raise SystemExit(0) from None
