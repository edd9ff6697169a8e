"""`rempart audit monitor`: follow a log from outside."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, say
from .proofs import read_file
from .state import JsonOption, StateOption


def monitor(
    log: Annotated[str, typer.Argument(help="Where the log is: https://HOST/logs/, or a directory")],
    key: Annotated[Path, typer.Option(help="The log's verifier key (log.vkey), from somebody you trust")],
    memory: Annotated[
        Path | None, typer.Option(help="File in which what was seen is kept; default log.monitor, in --state if given")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once")] = False,
    stale_after: Annotated[float, typer.Option(min=0, help="Say so when nothing was added for so many seconds")] = 0.0,
    recheck: Annotated[int, typer.Option(min=0, help="Bundles of 256 events to read again at each look")] = 4,
    token: Annotated[Path | None, typer.Option(help="File with a bearer token")] = None,
    ca: Annotated[Path | None, typer.Option(help="File of the CA certificates to trust")] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check that a log only grows and shows everybody the same; run it where the log's operator has no power.

    Exit codes: 1 the log lied (what it showed is kept beside the memory, as `MEMORY.evidence`), 3 with --once when it
    can't be read, or is stale. Without --once it goes on until the log lies.
    """
    from rempart.audit.monitor import Monitor, load_memory, save_memory
    from rempart.audit.verifier import VerificationError
    from rempart.backends.log_files import DirectoryLog, HttpLog
    from rempart.crypto.signing import verify_ed25519
    from rempart.kernel.durable_file import replace_file

    memory = memory or (state or Path()) / "log.monitor"
    try:
        known = load_memory(memory, read_file(key, "the verifier key").decode("utf-8", "replace"))
    except VerificationError as error:
        raise BadInput("bad_verifier_key", str(error), "use log.vkey as the sequencer published it") from None
    bearer = read_file(token, "the token").decode("ascii", "replace").strip() if token else ""
    files = HttpLog(log, token=bearer, ca=ca) if "://" in log else DirectoryLog(Path(log))
    watching = Monitor(files, known, verify_ed25519, recheck=recheck, stale_after=stale_after)
    said: set[str] = set()
    while True:
        look = watching.look(time.time())
        lies = [finding for finding in look.findings if finding.is_lie]
        if not lies:
            save_memory(memory, watching.memory)
        for lie in lies[:1]:
            evidence = f"{watching.memory.checkpoint}\n{lie.checkpoint}".encode()
            replace_file(memory.with_name(memory.name + ".evidence"), evidence, 0o644)
        _tell(look, said, as_json=json, always=once)
        said = {finding.kind for finding in look.findings}
        if lies:
            raise SystemExit(1)
        if once:
            raise SystemExit(3 if look.findings else 0)
        time.sleep(every)


def _tell(look: Any, said: set[str], *, as_json: bool, always: bool) -> None:
    """One line for what is new; in JSON one object."""
    fresh = [finding for finding in look.findings if finding.kind not in said]
    if not (always or look.added or fresh):
        return
    if as_json:
        told = {**asdict(look), "findings": [{"kind": f.kind, "reason": f.reason} for f in look.findings]}
        print_json({"at": time.time(), "ok": not look.findings, **told})
        return
    for found in look.new_keys:
        say(f"the log announced a new key: {found}")
    say(f"{look.size} events, {look.added} new, {look.rechecked} read again")
    for finding in fresh:
        say(f"{finding.kind}: {finding.reason}")
