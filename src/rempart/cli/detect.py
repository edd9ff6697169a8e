"""`rempart detect`: test the rules, run them over events, replay them over the record, watch alerts as they come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from rempart.kernel.errors import BadInput, NotFound

from .event_lines import event_lines
from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

if TYPE_CHECKING:
    from rempart.detection.engine import Engine
    from rempart.detection.model import Alert

app = typer.Typer(no_args_is_help=True)

RulesOption = Annotated[Path | None, typer.Option("--rules", help="Directory of Sigma files besides the built-in ones")]
GeoOption = Annotated[Path | None, typer.Option("--geo", help="CSV file: network, country, latitude, longitude")]
_COLOURS = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan", "info": "dim"}


@app.command("test")
def try_streams(
    rules: RulesOption = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Names of rules; default all")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run each rule against its streams of events: what must alert does, what must not does not. Needs no system."""
    from rempart.detection.ruleset import BUILT_IN, load
    from rempart.detection.streams import missing_streams, run_stream, streams_of

    directories = [BUILT_IN, *([rules] if rules else [])]
    ruleset = load(directories)
    chosen = streams_of(directories)
    problems = missing_streams(ruleset, chosen)
    if only:
        chosen = [stream for stream in chosen if stream.rule in only]
        problems = [problem for problem in problems if problem.split()[0] in only]
        if not chosen:
            raise NotFound("no_stream", f"there is no stream for {', '.join(only)}", "see `rempart detect rules`")
    results = []
    for stream in chosen:
        result, _ = run_stream(stream, ruleset)
        results.append(result)
        if not result.ok:
            problems.append(f"{stream.rule}: {stream.name}: expected {dict(stream.gives)}, got {dict(result.got)}")
    if as_json:
        streams = [
            {
                "rule": r.stream.rule,
                "stream": r.stream.name,
                "gives": dict(r.stream.gives),
                "got": dict(r.got),
                "ok": r.ok,
            }
            for r in results
        ]
        print_json({"streams": streams, "problems": problems, "ok": not problems})
    else:
        rows = [(r.stream.rule, r.stream.name, _gives(r.stream.gives), _gives(r.got), r.ok) for r in results]
        print_table(
            ("rule", "stream", "must give", "gives", "ok"), [(*row[:4], "yes" if row[4] else "NO") for row in rows]
        )
    for problem in problems:
        say(f"wrong: {problem}")
    say(f"{len(results)} streams, {sum(not r.ok for r in results)} wrong")
    if problems:
        raise SystemExit(1)


@app.command("rules")
def list_rules(rules: RulesOption = None, as_json: JsonOption = False) -> None:
    """Every rule that alerts: severity, MITRE ATT&CK, what it says, what else may cause it."""
    from rempart.detection.rule_page import documents

    found = documents([rules] if rules else [])
    if as_json:
        print_json({"rules": found})
        return
    rows = [(one["rule"], one["severity"], " ".join(one["attack"]), one["title"], one["how"]) for one in found]
    print_table(("rule", "severity", "ATT&CK", "title", "how"), rows)


@app.command()
def run(
    events: Annotated[
        Path | None, typer.Argument(help="JSON lines as `rempart audit export`; - or none: stdin")
    ] = None,
    rules: RulesOption = None,
    geo: GeoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the rules over events from a file or a pipe, oldest first, and print the alerts. Needs no system.

    Exit code 1 when there was an alert.
    """
    engine = _engine(rules, geo)
    found = read = 0
    with event_lines(events) as lines:
        for line in lines:
            read += 1
            for alert in _spoken(engine.take(line)):
                found += 1
                _print(alert.document(), as_json=as_json)
    counts = engine.counts
    say(f"{read} events, {counts.unreadable} of them unreadable, {found} alerts")
    if read and counts.unreadable == read:
        raise BadInput(
            "no_events", "not one line is an event", "give the output of `rempart audit export`, oldest first"
        )
    if found:
        raise SystemExit(1)


@app.command()
def replay(
    rules: RulesOption = None,
    geo: GeoOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the rules over the whole record again and compare with the alerts that were raised.

    Exit code 1 when they differ: then the rules changed since, or somebody was erased, or the detector is behind.
    """
    engine = _engine(rules, geo)
    now: dict[str, Alert] = {}
    raised: dict[str, dict[str, Any]] = {}
    taken = 0
    for payload in _record(state_dir(state), 0, progress=not as_json):
        taken += 1
        now.update((alert.id, alert) for alert in _spoken(engine.take(payload)))
        if (document := _raised(payload)) is not None:
            raised[str(document.get("id"))] = document
    missing, more = [a for a in now if a not in raised], [a for a in raised if a not in now]
    documents = {**raised, **{id: alert.document() for id, alert in now.items()}}
    if as_json:
        print_json(
            {
                "events": taken,
                "alerts": list(documents.values()),
                "not_raised": missing,
                "not_again": more,
                "same": not missing and not more,
            }
        )
    else:
        for id, document in documents.items():
            _print(document, as_json=False)
            if id in missing:
                say("  was not raised")
            if id in more:
                say("  does not come again")
        say(f"{taken} events, {len(now)} alerts, {len(now) - len(missing)} of them as they were raised")
    if missing or more:
        raise SystemExit(1)


@app.command()
def show(
    id: str,
    proofs: Annotated[
        Path | None, typer.Option("--proofs", help="Write each event's proof into this directory")
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """An alert with the events that it rests on; each is proved to be in the log."""
    directory = state_dir(state)
    found = call(directory, "sequencer", "GET", f"/events/{id}")
    alert = (found["event"]["unmapped"]["rempart"].get("details") or {}).get("alert")
    if not isinstance(alert, dict):
        raise NotFound("no_such_alert", f"{id} is no alert", "see `rempart detect watch --since 1d`")
    evidence = []
    for event_id in (id, *alert.get("evidence", ())):
        proof = call(directory, "sequencer", "GET", f"/proofs/{event_id}")
        evidence.append(proof)
        if proofs is not None:
            proofs.mkdir(parents=True, exist_ok=True)
            (proofs / f"{event_id}.json").write_bytes(msgspec.json.encode(proof))
    if as_json:
        print_json({"alert": alert, "evidence": evidence})
        return
    _print(alert, as_json=False)
    rows = []
    for proof in evidence[1:]:
        own = proof["event"]["unmapped"]["rempart"]
        rows.append((proof["index"], own["type"], own.get("person") or own.get("workload") or "", own["id"]))
    print_table(("index", "type", "who", "event"), rows)
    if proofs is not None:
        say(f"{len(evidence)} proofs in {proofs}: `rempart audit verify FILE` checks one anywhere")


@app.command()
def watch(
    since: Annotated[str | None, typer.Option(help="Begin with the alerts since then: 15m, 2h, 1d")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Alerts as they are raised, one a line. Ctrl-C ends it."""
    directory = state_dir(state)
    size = call(directory, "sequencer", "GET", "/checkpoint.json")["size"]
    if since:
        path = f"/search?type=alert.raised&since={since}&limit=1000&full=1"
        for event in reversed(call(directory, "sequencer", "GET", path)["events"]):
            if event["index"] < size and (document := _raised(msgspec.json.encode(event["event"]))) is not None:
                _print(document, as_json=as_json)
    with contextlib.suppress(KeyboardInterrupt):
        for payload in _record(directory, size, follow=True):
            if (document := _raised(payload)) is not None:
                _print(document, as_json=as_json)


# -- reading ---------------------------------------------------------------------------------------------------------


def _engine(rules: Path | None, geo: Path | None) -> Engine:
    from rempart.backends.geo_csv import GeoCsv
    from rempart.detection.engine import Engine
    from rempart.detection.ruleset import BUILT_IN, load

    return Engine(load([BUILT_IN, *([rules] if rules else [])], GeoCsv.read(geo) if geo else None))


def _spoken(alerts: Iterable[Alert]) -> list[Alert]:
    return [alert for alert in alerts if alert.severity not in ("info", "low")]


class _Page(msgspec.Struct):
    size: int
    events: list[Any]


def _record(state: Path, start: int, *, follow: bool = False, progress: bool = False) -> Iterator[bytes]:
    """Events of the log in its order from `start` on, to its end or, with `follow`, for good."""
    told = time.monotonic()
    while True:
        page = call(state, "sequencer", "GET", f"/entries/{start}" + ("?wait=20" if follow else ""))
        for event in page["events"]:
            yield msgspec.json.encode(event)
        start += len(page["events"])
        if not page["events"] and not follow:
            return
        if progress and time.monotonic() - told > 2:
            told = time.monotonic()
            say(f"{start} of {page['size']} events")


def _raised(payload: bytes) -> dict[str, Any] | None:
    """The alert of an `alert.raised`, else None."""
    if b'"alert.raised"' not in payload:
        return None
    own = msgspec.json.decode(payload)["unmapped"]["rempart"]
    alert = (own.get("details") or {}).get("alert")
    return alert if own.get("type") == "alert.raised" and own.get("source") == "detector" else None


# -- showing ---------------------------------------------------------------------------------------------------------


def _gives(gives: Any) -> str:
    return ", ".join(f"{count} × {rule}" for rule, count in sorted(gives.items())) or "nothing"


def _print(alert: dict[str, Any], *, as_json: bool) -> None:
    """One line, coloured where stdout is a terminal. Text is shown as it stands: it can't steer the terminal."""
    if as_json:
        print_json(alert)
        return
    from rich.console import Console
    from rich.text import Text

    from rempart.kernel.clock import rfc3339

    severity = str(alert.get("severity"))
    text = Text.assemble(
        (rfc3339(float(alert.get("last", 0))), "dim"),
        "  ",
        (f"{severity:<8}", _COLOURS.get(severity, "")),
        "  ",
        (_plain(alert.get("rule")), "bold"),
        "  ",
        _plain(alert.get("reason")),
        "  ",
        (" ".join(map(_plain, alert.get("principals") or ())), "cyan"),
        "  ",
        (_plain(alert.get("id")), "dim"),
    )
    Console(highlight=False, soft_wrap=True).print(text)


def _plain(value: object) -> str:
    return "".join(char if char.isprintable() else "�" for char in str(value))
