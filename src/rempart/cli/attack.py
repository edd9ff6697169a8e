"""`rempart attack`: the simulated adversary against the running system."""

from __future__ import annotations

import json
import os
import subprocess  # nosec B404 - runs our own command
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rempart.kernel.errors import BadInput, Unavailable

from .attack_models import models_means
from .control import status as ask_status
from .output import print_json, print_table, say
from .state import JsonOption, StateOption, state_dir

if TYPE_CHECKING:
    from rempart.attack.model import Finding
    from rempart.attack.scene import LogCheck, Scene

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def attack(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Ids, or how they begin: S-jwt, D, E-path-dots")
    ] = None,
    intrusion: Annotated[
        bool, typer.Option("--intrusion", help="Play an intrusion that succeeds, and see what the watch makes of it")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="Show the attacks and try none")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Attack the running system and report what stopped each attack. Exit code 1 when one got through."""
    from rempart.attack.campaign import run
    from rempart.attack.catalog import select
    from rempart.attack.scene import Means, Scene

    attacks = select([one for given in only or () for one in given.split(",") if one])
    if listing:
        _list(attacks, as_json=as_json)
        return
    directory = state_dir(state)
    status = ask_status(directory)
    if not status["ready"]:
        raise Unavailable("not_ready", "the system isn't ready", "wait, or see `rempart status`")
    scene = Scene(
        status,
        _accounts(status),
        Means(
            directory,
            _verify_log,
            lambda: _as_agent(directory),
            operator=partial(_operate, directory),
            replay=_replay,
            **models_means(),
        ),
    )
    scene.notes["uid"] = os.getuid()
    if intrusion:
        _intrude(scene, as_json=as_json)
        return
    done = 0

    def progress(finding: Finding) -> None:
        nonlocal done
        done += 1
        word = {True: "blocked", False: "GOT THROUGH", None: "not tried"}[finding.blocked]
        say(f"{done:>4}/{len(attacks)}  {word:<11}  {finding.attack.id}: {finding.observed}")

    report = run(scene, attacks, progress)
    if as_json:
        print_json(report.document())
    else:
        _table(report.findings)
    say(f"\n{report.tried} tried, {report.blocked} blocked, {len(report.findings) - report.tried} not tried")
    if report.blocked < report.tried:
        raise SystemExit(1)


def _intrude(scene: Scene, *, as_json: bool) -> None:
    """Exit code 1 unless exactly the expected alerts were raised."""
    from rempart.attack.intrusion import EXPECTED, intrude

    report = intrude(scene, say)
    if as_json:
        print_json(report.document())
    else:
        rows = [(a["rule"], a["severity"], a["reason"], len(a["evidence"]), a["id"]) for a in report.alerts]
        print_table(("alert", "severity", "why", "events", "id"), rows)
    say(f"{len(report.alerts)} alerts, {len(EXPECTED)} expected; `rempart detect show ID` opens one to its proofs")
    if not report.ok:
        raise SystemExit(1)


def _accounts(status: Mapping[str, Any]) -> list[Mapping[str, str]]:
    path = status.get("demo_accounts")
    if not path:
        raise BadInput("no_demo_accounts", "the attacks need demo accounts", "start with `--profile dev`")
    try:
        accounts: list[Mapping[str, str]] = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(
            "no_demo_accounts", f"{path} can't be read: {error}", "run it as who started the system"
        ) from None
    return accounts


def _verify_log(state: Path) -> LogCheck:
    from rempart.attack.scene import LogCheck

    done = _rempart(state, "audit", "verify", "--json")
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return LogCheck(False, done.stderr.strip()[-300:] or f"exit code {done.returncode}")
    return LogCheck(done.returncode == 0 and document.get("ok") is True, "; ".join(document.get("problems", ())))


def _as_agent(state: Path) -> Mapping[str, Any]:
    """Raises OSError or ValueError where the agent isn't declared or can't be run."""
    done = _rempart(state, "run", "deposit-agent", "--", sys.executable, "-m", "rempart.attack.inside", cwd="/")
    if done.returncode != 0:
        raise OSError(done.stderr.strip()[-500:])
    seen: Mapping[str, Any] = json.loads(done.stdout)
    return seen


def _operate(state: Path, command: Sequence[str], stdin: str) -> Any:
    """Raises OSError with what the command said, or ValueError."""
    done = _rempart(state, *command, "--json", stdin=stdin)
    if done.returncode != 0:
        raise OSError(done.stderr.strip()[-300:])
    return json.loads(done.stdout)


def _replay(events: Iterable[bytes]) -> list[str]:
    from rempart.detection.engine import Engine
    from rempart.detection.ruleset import BUILT_IN, load

    engine = Engine(load([BUILT_IN]))
    alerts = (alert for event in events for alert in engine.take(event))
    return [alert.rule for alert in alerts if alert.severity not in ("info", "low")]


def _rempart(
    state: Path, *arguments: str, cwd: str | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REMPART_STATE": str(state), "NO_COLOR": "1"}
    code = "import sys; from rempart.cli.main import main; main(sys.argv[1:])"
    return subprocess.run(  # nosec B603 - our own command
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        input=stdin,
    )


def _list(attacks: Any, *, as_json: bool) -> None:
    if as_json:
        fields = ("id", "stride", "actor", "title", "tried", "expected", "alert")
        print_json([{name: str(getattr(one, name)) for name in fields} for one in attacks])
    else:
        print_table(("id", "actor", "title", "tried"), [(a.id, a.actor, a.title, a.tried) for a in attacks])


def _table(findings: Any) -> None:
    print_table(
        ("id", "STRIDE", "title", "blocked by", "evidence"),
        [
            (
                finding.attack.id,
                str(finding.attack.stride),
                finding.attack.title,
                {
                    True: finding.stopped_by,
                    False: f"GOT THROUGH: {finding.observed}",
                    None: f"not tried: {finding.observed}",
                }[finding.blocked],
                finding.evidence,
            )
            for finding in findings
        ],
    )
