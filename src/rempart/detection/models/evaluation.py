"""What the models find of generated anomalies (`staged`), at 10 alerts a day and at the level that asks for a step-up.

The older three quarters are history: chosen from, trained on, calibrated as always. The last quarter, with the
anomalies, is rated row by row as it comes. A baseline of one line stands beside each model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .model import Features, Level, Row, Subject
from .ports import Fitter
from .staged import BEGIN, staged
from .stream import Stream
from .time_features import DAY, hour_of
from .training import Job, features_of, train

A_DAY = 10


@dataclass(frozen=True, slots=True)
class Score:
    """`alerts` were given; `average_precision` is over the whole ranking, None where there is none."""

    name: str
    alerts: int
    precision: float
    recall: float
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`by_kind`: anomalies that the model found at A_DAY alerts a day, and how many there were."""

    subject: Subject
    rows: int
    anomalies: int
    days: int
    trained_on: int
    scores: Sequence[Score]
    by_kind: Mapping[str, tuple[int, int]]


def evaluate_all(fitter: Fitter, *, days: int = 28, seed: int = 1) -> list[Evaluation]:
    return [evaluate(subject, fitter, days=days, seed=seed) for subject in Subject]


def evaluate(subject: Subject, fitter: Fitter, *, days: int = 28, seed: int = 1) -> Evaluation:
    rows, labels = _rows(subject, days, seed)
    cut = BEGIN + int(days * 0.75) * DAY
    stream = Stream()
    for row in rows:
        if row.at < cut:
            stream.samples[subject].add(row)
    chosen = stream.samples[subject].choose(cut)
    features = features_of(subject)
    model = train(Job(subject, list(chosen.rows), len(features), seed), fitter)
    late = [row for row in rows if row.at >= cut]
    rated = [(*model.rate(row), row) for row in late]
    ranked = {row.id: (share, raw) for raw, share, _, _, row in rated}
    plain = {row.id: (_baseline(subject, row, features), 0.0) for row in late}
    high = {row.id for _, _, level, _, row in rated if level is Level.HIGH}
    found = _top(late, ranked)
    kinds = Counter(label for row in late if (label := labels.get(row.id)))
    caught = Counter(label for id in found if (label := labels.get(id)))
    return Evaluation(
        subject,
        len(late),
        sum(kinds.values()),
        days - int(days * 0.75),
        model.rows,
        (
            _score("model, 10 a day", found, late, labels, ranked),
            _score("baseline, 10 a day", _top(late, plain), late, labels, plain),
            _score("model, level high", high, late, labels, {}),
        ),
        {kind: (caught[kind], count) for kind, count in kinds.items()},
    )


def _rows(subject: Subject, days: int, seed: int) -> tuple[list[Row], dict[str, str]]:
    """Rows, and labels of the anomalous ones. A window is anomalous by its last event."""
    stream, rows, labels = Stream(), [], {}
    by_event = {}
    for one in staged(subject, days, seed):
        by_event[str(one.own["id"])] = one.label
        rows += stream.rows_of(one.own, subject)
    for row in rows:
        if by_event.get(row.id):
            labels[row.id] = by_event[row.id]
    return rows, labels


def _top(rows: Sequence[Row], ranked: Mapping[str, tuple[float, float]]) -> set[str]:
    """The A_DAY most unusual of each day."""
    days: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        days[int(row.at // DAY)].append(row)
    return {
        row.id for day in days.values() for row in sorted(day, key=lambda one: ranked[one.id], reverse=True)[:A_DAY]
    }


def _score(
    name: str,
    chosen: set[str],
    rows: Sequence[Row],
    labels: Mapping[str, str],
    ranked: Mapping[str, tuple[float, float]],
) -> Score:
    hits = sum(id in labels for id in chosen)
    anomalies = sum(row.id in labels for row in rows)
    precision, recall = hits / len(chosen) if chosen else 0.0, hits / anomalies if anomalies else 0.0
    if not ranked:
        return Score(name, len(chosen), precision, recall, None)
    met, total = 0, 0.0
    for place, row in enumerate(sorted(rows, key=lambda one: ranked[one.id], reverse=True), 1):
        if row.id in labels:
            met += 1
            total += met / place
    return Score(name, len(chosen), precision, recall, total / anomalies if anomalies else 0.0)


def _baseline(subject: Subject, row: Row, features: Features) -> float:
    """One line that anybody would write first: logins from new networks or devices, most requests, outside of working
    hours."""
    value = dict(zip((one.name for one in features), row.values, strict=True))
    if subject is Subject.LOGINS:
        return value["network_new"] + value["device_new"] + value["failures"] / 10
    if subject is Subject.API:
        return value["requests"]
    hour = hour_of(value["hour_sin"], value["hour_cos"])
    return abs(hour - 13) + 24 * (hour_of(value["week_sin"], value["week_cos"]) / 24 * 7 >= 5)
