"""The `rempart` command: finds the module of the verb and runs it; turns every error into words and an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from rempart import __version__
from rempart.kernel.errors import BadInput, RempartError

from .output import fail

# verb → (module of this package, what --help says). A module's `app` is a Typer with one command for a plain verb,
# with several for a group of them. Only the module of the verb that was given is imported.
VERBS: dict[str, tuple[str, str]] = {
    "up": ("up", "Start an application behind Rempart"),
    "down": ("down", "Stop everything that `up` started"),
    "status": ("status", "What runs, where, and what to know about it"),
    "doctor": ("doctor", "What is wrong here, and why a process gets no identity"),
    "logs": ("logs", "What the processes printed"),
    "run": ("run", "Run a command as a declared client workload"),
    "demo": ("demo", "Play the critical flows against the running system"),
    "attack": ("attack", "Attack the running system and report what stopped each attack"),
    "user": ("user", "People: accounts, roles, limits"),
    "role": ("role", "Roles: built-in ones and the application's own"),
    "client": ("client", "OAuth clients"),
    "server": ("server", "Sign for the agents of other hosts"),
    "agent": ("agent", "The agent of this host, and the agents of a server"),
    "migrate": ("migrate", "Take over from SPIRE"),
    "entry": ("entry", "SPIFFE registration entries"),
    "svid": ("svid", "Identities of the calling workload"),
    "bundle": ("bundle", "Trust bundles"),
    "policy": ("policy", "Test, check, explain and reload policies"),
    "audit": ("audit", "Search, prove and verify the record"),
    "detect": ("detect", "Detections: test, run and replay the rules, watch alerts"),
    "models": ("models", "Models of what is usual: train, list, show, score, evaluate; raised risks"),
    "alert": ("alert", "Incidents: list, acknowledge, resolve, silence; channels"),
    "witness": ("witness", "Cosign other logs as long as they only grow"),
    "keys": ("keys", "Signing keys: list and rotate"),
}


def _help() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {about}" for verb, (_, about) in VERBS.items()]
    return (
        "Usage: rempart VERB [OPTIONS]\n\n"
        "Zero trust for microservices: identify, decide, enforce, record, watch.\n\n"
        "Verbs:\n" + "\n".join(lines) + "\n\n"
        "`rempart VERB --help` tells more. Exit codes: 0 yes, 1 the answer is no, 2 bad usage or input, 3 not running."
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exit codes: 0 yes · 1 the answer is no · 2 bad usage or input · 3 not running."""
    guarded(_run, list(sys.argv[1:] if arguments is None else arguments))


def guarded(run: Callable[[list[str]], NoReturn], argv: list[str]) -> NoReturn:
    """Every error in words, as `--json` or for people, and as an exit code."""
    as_json = "--json" in argv
    try:
        run(argv)
    except RempartError as error:
        fail(error, as_json=as_json)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout went away: nobody is left to tell
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _run(argv: list[str]) -> NoReturn:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        raise SystemExit(0)
    verb, *rest = argv
    if verb == "--version":
        print(f"rempart {__version__}")
        raise SystemExit(0)
    if verb not in VERBS:
        raise BadInput("bad_usage", f"there is no verb {verb!r}", "see `rempart --help`")
    import typer

    module, _ = VERBS[verb]
    command = typer.main.get_command(importlib.import_module(f"rempart.cli.{module}").app)
    command.main(rest, prog_name=f"rempart {verb}")
    raise SystemExit(0)
