"""`rempart models`: what the models know, how well they do, whose risk they raised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from rempart.detection.models.model import Subject
from rempart.kernel.errors import BadInput, Unavailable

from .event_lines import event_lines
from .output import print_json, print_table, say, shown_time
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help=__doc__)
SubjectArgument = Annotated[Subject, typer.Argument(help="logins, api or deployments")]
_TRAINING = 960.0


@app.command("list")
def list_(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Each model: in force, refused, or how much data it still needs."""
    found = call(state_dir(state), "models", "GET", "/models")
    if as_json:
        print_json(found)
        return
    columns = ("model", "estimator", "state", "trained", "rows", "samples", "drifted", "why")
    print_table(columns, [_row(one) for one in found["models"]])
    say(f"{found['taken']} of {found['size']} events taken, {found['risks']} risks raised")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    trained = shown_time(one["trained_at"]) if "trained_at" in one else ""
    name = one.get("model") or one["subject"]
    why = one["failed"] or one["why"]
    return (
        name,
        one["estimator"],
        one["state"],
        trained,
        one.get("rows", ""),
        one["samples"],
        ", ".join(one["drifted"]),
        why,
    )


@app.command()
def show(subject: SubjectArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """One model: its features with what is usual of each, what was left out of its training, who signs it."""
    found = call(state_dir(state), "models", "GET", f"/models/{subject.value}")
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], *_usual(one), one["meaning"]) for one in found["features"]]
    print_table(("feature", "median", "95 % lie in", "meaning"), rows)
    for name in (
        "model",
        "state",
        "why",
        "samples",
        "wanted",
        "rows",
        "principals",
        "own_models",
        "left_out",
        "signer",
    ):
        if found.get(name) not in (None, ""):
            say(f"{name}: {found[name]}")


def _usual(one: dict[str, Any]) -> tuple[str, str]:
    if "median" not in one:
        return "", ""
    return f"{one['median']:.3g}", f"{one['usual'][0]:.3g} to {one['usual'][1]:.3g}"


@app.command()
def train(subject: SubjectArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Train now, in a child process of low priority. Ends with 1 while there is not enough data."""
    say(f"training {subject.value} …")
    found = call(state_dir(state), "models", "POST", f"/models/{subject.value}/train", timeout=_TRAINING)
    if as_json:
        print_json(found)
        return
    say(f"{found['model']}: {found['rows']} rows of {found['principals']} principals, {found['bytes']} bytes")


@app.command()
def risks(
    clear: Annotated[str, typer.Option("--clear", help="An account's id or a SPIFFE ID: it was nothing")] = "",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whose risk is raised; they have to log in again. `--clear` takes it back, which is recorded."""
    directory = state_dir(state)
    if clear:
        call(directory, "models", "DELETE", f"/risks/{clear}")
        say(f"the risk of {clear} is cleared")
        return
    found = call(directory, "models", "GET", "/risks")
    if as_json:
        print_json(found)
        return
    rows = [
        (one["principal"], one["level"], shown_time(one["since"]), shown_time(one["until"])) for one in found["risks"]
    ]
    print_table(("principal", "risk", "since", "until"), rows)


@app.command()
def score(
    events: Annotated[
        Path | None, typer.Argument(help="JSON lines as `rempart audit export`, oldest first; - or none: stdin")
    ] = None,
    subject: Annotated[Subject, typer.Option("--model", help="logins, api or deployments")] = Subject.LOGINS,
    least: Annotated[str, typer.Option("--least", help="low, medium or high")] = "medium",
    geo: Annotated[Path | None, typer.Option("--geo", help="CSV: network, country, latitude, longitude")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the model in force says of events from a file. Ends with 1 when something is at high risk."""
    if least not in _LEVELS:
        raise BadInput("bad_level", f"{least!r} is no level", "choose from " + ", ".join(_LEVELS))
    directory = state_dir(state)
    rows = list(_rows(events, subject, geo))
    high = False
    for start in range(0, len(rows), 1000):
        body = {"rows": [msgspec.to_builtins(row) for row in rows[start : start + 1000]]}
        answer = call(directory, "models", "POST", f"/models/{subject.value}/score", body)
        for rating in answer["ratings"]:
            high |= rating["level"] == "high"
            if _LEVELS.index(rating["level"]) >= _LEVELS.index(least):
                _print(rating, as_json=as_json)
    say(f"{len(rows)} rows of {subject.value}")
    if high:
        raise SystemExit(1)


_LEVELS = ("low", "medium", "high")


def _rows(path: Path | None, subject: Subject, geo: Path | None) -> Iterator[Any]:
    from rempart.backends.geo_csv import GeoCsv
    from rempart.detection.models.stream import Stream

    stream = Stream(GeoCsv.read(geo) if geo else None)
    with event_lines(path) as lines:
        for line in lines:
            yield from stream.rows(line, subject)
    if stream.counts.events and stream.counts.unreadable == stream.counts.events:
        raise BadInput("no_events", "not one line is an event", "give the output of `rempart audit export`")


def _print(rating: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(rating)
        return
    why = "; ".join(one["words"] for one in rating["reasons"])
    head = f"{shown_time(rating['at'])}  {rating['level']:<6}  {rating['score']:.3f}"
    print(f"{head}  {rating['principal']}  {rating['id']}  {why}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A model file")],
    key: Annotated[Path, typer.Option("--key", help="models.vkey of the system that made it")],
    subject: Annotated[Subject, typer.Option("--model")] = Subject.LOGINS,
    as_json: JsonOption = False,
) -> None:
    """Is it a model that this key signed, whole and made for this version's features? Needs no system."""
    from rempart.crypto.signing import NoteVerifier
    from rempart.detection.models.model_file import read_model
    from rempart.detection.models.training import features_of

    try:
        content, vkey = file.read_bytes(), key.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("no_file", f"it can't be read: {error}", "name the file and its key") from None
    model = read_model(content, subject, features_of(subject), NoteVerifier.parse(vkey))
    found = {"model": model.name, "sha256": model.digest, "rows": model.body.model.rows, "ok": True}
    if as_json:
        print_json(found)
    else:
        say(f"{model.name}: signed, whole, {model.body.model.rows} rows, trained {shown_time(model.body.trained_at)}")


@app.command()
def evaluate(
    days: Annotated[
        int, typer.Option(help="Days of generated traffic; the last quarter is judged", min=14, max=90)
    ] = 28,
    seed: Annotated[int, typer.Option(help="Another seed, other traffic")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train on generated traffic and count what the models find of the anomalies in it, beside a plain baseline.

    Needs no system, and the extra `models`. Says nothing about your own traffic.
    """
    try:
        from rempart.backends.sklearn_fitter import SklearnFitter
    except ImportError:
        why = "scikit-learn is not installed"
        raise Unavailable("no_trainer", why, "install the extra: pip install 'rempart[models]'") from None
    from rempart.detection.models.evaluation import evaluate_all

    found = evaluate_all(SklearnFitter(), days=days, seed=seed)
    if as_json:
        print_json({"evaluations": [msgspec.to_builtins(one) for one in found]})
        return
    for one in found:
        say(f"{one.subject.value}: {one.rows} rows, {one.anomalies} of them anomalies, {one.days} days")
        rows = [
            (s.name, s.alerts, *("" if x is None else f"{x:.2f}" for x in (s.precision, s.recall, s.average_precision)))
            for s in one.scores
        ]
        print_table(("by", "alerts", "precision", "recall", "average precision"), rows)
        for kind, (caught, of) in sorted(one.by_kind.items()):
            say(f"  {kind}: {caught} of {of}")
