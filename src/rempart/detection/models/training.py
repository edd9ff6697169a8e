"""From rows to a trained model: fit on the older part, calibrate on the newer one, profile all of it.

Runs in the training process. The same job gives the same model.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from rempart.kernel.errors import Unprocessable

from .estimators import Fitted
from .model import Features, Row, Subject
from .ports import Fitter
from .time_features import DAY, hour_index
from .trained import BINS, Part, Profile, Trained, calibrate

LEAST: Mapping[Subject, int] = {Subject.LOGINS: 400, Subject.API: 400, Subject.DEPLOYMENTS: 60}
LEAST_DAYS = 3
LEAST_OWN = 120  # windows of a principal that gets a model of its own
MOST_OWN = 64  # principals; all others are judged by the pooled model
MOST_ROWS = {Subject.LOGINS: 20_000, Subject.API: 2000, Subject.DEPLOYMENTS: 2000}
FIT_SHARE = 0.7
NU = 0.05
TAIL, MANY = 0.03, 5  # of the calibration: who has a third of this share, and so many rows, decides it alone
MOST_ASIDE = 3
NEIGHBOURS = 20


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the training process is given: rows that `Samples.choose` chose, oldest first."""

    subject: Subject
    rows: list[Row]
    width: int
    seed: int = 1


def enough(subject: Subject, rows: Sequence[Row], least: int = 0) -> str:
    """Empty, or why there is not enough data, in words."""
    wanted = least or LEAST[subject]
    if len(rows) < wanted:
        return f"not enough data: {len(rows)} of {wanted} rows"
    days = (rows[-1].at - rows[0].at) / DAY
    if days < LEAST_DAYS:
        return f"not enough data: {days:.1f} of {LEAST_DAYS} days"
    return ""


def train(job: Job, fitter: Fitter) -> Trained:
    """Raises Unprocessable `not_enough_data` when a part would be empty."""
    rows = sorted(job.rows, key=lambda row: (row.at, row.id))
    if any(len(row.packed) != 4 * job.width for row in rows) or len(rows) < 10:
        raise Unprocessable("not_enough_data", f"{len(rows)} rows are nothing to train on", "wait for more events")
    rows, pooled, scores, aside = _pooled(job, rows, fitter)
    own: dict[str, Part] = {}
    own_scores: list[float] = []
    if job.subject is Subject.API:
        own, own_scores = _each(job, rows, fitter)
    return Trained(
        subject=job.subject,
        rows=len(rows),
        principals=len({row.principal for row in rows}),
        first=rows[0].at,
        last=rows[-1].at,
        pooled=pooled,
        calibration=calibrate(scores),
        profile=profiles([row.values for row in rows]),
        hours=_hours(rows),
        own=own,
        own_calibration=calibrate(own_scores) if own_scores else None,
        set_aside=aside,
    )


def _pooled(job: Job, rows: list[Row], fitter: Fitter) -> tuple[list[Row], Part, list[float], list[str]]:
    """The rows that were learnt from, the model, its calibration scores, and who was set aside.

    Who alone fills the tail of the calibration decides what counts as unusual: whoever wants to come unnoticed would
    make unusual use usual that way. Such a principal is set aside, MOST_ASIDE of them at most, and the model is fitted
    anew without them.
    """
    aside: list[str] = []
    while True:
        at = int(len(rows) * FIT_SHARE)
        part = Part(_fit(job, rows[:at][-MOST_ROWS[job.subject] :], fitter))
        scored = sorted(((part.score(row.values), row.principal) for row in rows[at:]), reverse=True)
        tail = Counter(principal for _, principal in scored[: max(MANY, int(len(scored) * TAIL))])
        principal, count = tail.most_common(1)[0]
        rest = [row for row in rows if row.principal != principal]
        too_few = len(rest) < len(rows) // 2 or len({row.principal for row in rest}) < MANY
        if job.subject is Subject.DEPLOYMENTS or count < MANY or count * 3 < tail.total() or too_few:
            return rows, part, [score for score, _ in scored], aside
        if len(aside) == MOST_ASIDE:
            return rows, part, [score for score, _ in scored], aside
        aside.append(principal)
        rows = rest


def _fit(job: Job, rows: Sequence[Row], fitter: Fitter) -> Fitted:
    values = [row.values for row in rows]
    match job.subject:
        case Subject.LOGINS:
            return fitter.forest(values, seed=job.seed)
        case Subject.API:
            return fitter.support(values, nu=NU)
        case Subject.DEPLOYMENTS:
            return fitter.neighbours(values, k=min(NEIGHBOURS, len(values) - 1))


def _each(job: Job, rows: Sequence[Row], fitter: Fitter) -> tuple[dict[str, Part], list[float]]:
    """A model for each principal that has enough windows, and all their calibration scores on one scale."""
    by_principal: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_principal[row.principal].append(row)
    busiest = sorted(by_principal.items(), key=lambda one: (-len(one[1]), one[0]))[:MOST_OWN]
    own: dict[str, Part] = {}
    scores: list[float] = []
    for principal, mine in busiest:
        if len(mine) < LEAST_OWN:
            break
        at = int(len(mine) * FIT_SHARE)
        estimator = _fit(job, mine[:at], fitter)
        raws = sorted(estimator.raw(row.values) for row in mine[at:])
        middle, spread = raws[len(raws) // 2], raws[3 * len(raws) // 4] - raws[len(raws) // 4]
        part = Part(estimator, middle, max(spread, 1e-6))
        own[principal] = part
        scores += [part.score(row.values) for row in mine[at:]]
    return own, scores


def profiles(rows: Sequence[Sequence[float]]) -> list[Profile]:
    found = []
    for column in zip(*rows, strict=True):
        ordered = sorted(column)
        count = len(ordered)
        edges = sorted({ordered[(count - 1) * step // BINS] for step in range(1, BINS)})
        counts = [0] * (len(edges) + 1)
        place = 0
        for value in ordered:
            while place < len(edges) and value > edges[place]:
                place += 1
            counts[place] += 1
        found.append(
            Profile(
                ordered[count // 2],
                (ordered[int(count * 0.025)], ordered[min(count - 1, int(count * 0.975))]),
                (ordered[count // 4], ordered[3 * count // 4]),
                edges,
                [one / count for one in counts],
            )
        )
    return found


def _hours(rows: Sequence[Row]) -> list[int]:
    counts = Counter(hour_index(row.at) for row in rows)
    return [counts[hour] for hour in range(24)]


def features_of(subject: Subject) -> Features:
    from . import api_features, deployment_features, login_features

    return {
        Subject.LOGINS: login_features.FEATURES,
        Subject.API: api_features.FEATURES,
        Subject.DEPLOYMENTS: deployment_features.FEATURES,
    }[subject]
