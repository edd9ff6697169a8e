"""A trained model: estimators, how their scores are calibrated, and what its training data looked like."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from rempart.kernel.errors import Integrity

from .estimators import Fitted
from .model import Features, Level, Reason, Row, Subject
from .time_features import hour_of

MEDIUM, HIGH = 0.97, 0.995  # quantiles of the calibration data
BINS = 10
_MARGIN = 1e-9


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One estimator. Its raw scores less `middle`, in units of `spread`, compare with those of others."""

    estimator: Fitted
    middle: float = 0.0
    spread: float = 1.0

    def score(self, row: Sequence[float]) -> float:
        return (self.estimator.raw(row) - self.middle) / self.spread


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of rows that were not trained on, ascending, with the share of rows at or below each."""

    scores: list[float]
    shares: list[float]
    medium: float
    high: float

    def share(self, score: float) -> float:
        """How many calibration rows of all are less unusual, 0 to 1."""
        place = bisect_right(self.scores, score)
        return self.shares[place - 1] if place else 0.0

    def level(self, score: float) -> Level:
        if score > self.high:
            return Level.HIGH
        return Level.MEDIUM if score > self.medium else Level.LOW


def calibrate(scores: Sequence[float], keep: int = 400) -> Calibration:
    """Conformal: a threshold that too few rows carry is the largest of them, so `high` is never common by chance."""
    ordered = sorted(scores)
    count = len(ordered)

    def threshold(quantile: float) -> float:
        return ordered[min(count - 1, math.ceil((count + 1) * quantile) - 1)] + _MARGIN

    step = max(1, count // keep)
    places = sorted({*range(0, count, step), *range(max(0, count - 50), count)})
    return Calibration(
        [ordered[one] for one in places],
        [(one + 1) / (count + 1) for one in places],
        threshold(MEDIUM),
        threshold(HIGH),
    )


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature in the training data: its median, what holds 95 % and 50 % of it, and bins for drift: upper edges
    and the share of rows in each bin (one more than edges)."""

    middle: float
    usual: tuple[float, float]
    quartiles: tuple[float, float]
    edges: list[float]
    shares: list[float]


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the training process gives back. Times in seconds since the epoch; `own` are principals' own models,
    `set_aside` principals whose rows alone would have decided what is unusual."""

    subject: Subject
    rows: int
    principals: int
    first: float
    last: float
    pooled: Part
    calibration: Calibration
    profile: list[Profile]
    hours: list[int]
    own: dict[str, Part] = {}
    own_calibration: Calibration | None = None
    set_aside: list[str] = []

    def check(self, features: Features) -> None:
        """Raises Integrity `model_malformed`."""
        width = len(features)
        for part in (self.pooled, *self.own.values()):
            part.estimator.check(width)
            _must(math.isfinite(part.middle) and math.isfinite(part.spread) and part.spread > 0)
        for table in (self.calibration, *([self.own_calibration] if self.own_calibration else [])):
            _must(0 < len(table.scores) == len(table.shares) and table.scores == sorted(table.scores))
            _must(table.medium <= table.high and all(map(math.isfinite, (*table.scores, table.medium, table.high))))
        _must(not self.own or self.own_calibration is not None)
        _must(len(self.profile) == width and len(self.hours) == 24)
        _must(all(len(one.shares) == len(one.edges) + 1 for one in self.profile))

    def rate(self, row: Row) -> tuple[float, float, Level, bool]:
        """Raw score, share of calibration below it, level, and whether by the pooled model."""
        part = self.own.get(row.principal)
        table = self.own_calibration if part is not None else self.calibration
        if part is None or table is None:
            part, table = self.pooled, self.calibration
        score = part.score(row.values)
        return score, table.share(score), table.level(score), part is self.pooled

    def reasons(self, row: Row, features: Features, most: int = 3) -> tuple[Reason, ...]:
        """The features whose return to the median takes most of the anomaly away; time of day and of week are moved as
        the pairs that they are."""
        part = self.own.get(row.principal) or self.pooled
        values = list(row.values)
        score, base = part.score(values), part.score([one.middle for one in self.profile])
        whole = max(score - base, 1e-9)
        found: list[tuple[bool, float, Reason]] = []
        for group in _groups(features):
            moved = list(values)
            for index in group:
                moved[index] = self.profile[index].middle
            share = (score - part.score(moved)) / whole
            if share > 0.02:
                index = group[0]
                low, high = self.profile[index].usual
                within = len(group) == 1 and low <= values[index] <= high
                found.append((within, -share, self._reason(group, values, features, min(share, 1.0))))
        found.sort(key=lambda one: one[:2])
        return tuple(reason for _, _, reason in found[:most])

    def _reason(self, group: Sequence[int], values: Sequence[float], features: Features, share: float) -> Reason:
        index = group[0]
        name, profile = features[index].name, self.profile[index]
        rounded = round(values[index], 4)
        if name == "hour_sin":
            hour = hour_of(values[index], values[index + 1])
            begin, end = usual_hours(self.hours)
            words = f"{_clock(hour)} UTC where 95 % lie from {begin:02d}:00 to {end:02d}:00"
            return Reason("hour", round(hour, 2), (float(begin), float(end)), round(share, 3), words)
        low, high = profile.usual
        usual = (round(low, 4), round(high, 4))
        if name == "week_sin":
            days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
            day = days[int(hour_of(values[index], values[index + 1]) / 24 * 7) % 7]
            return Reason("week", rounded, usual, round(share, 3), f"{day}, unusual among its training data")
        meaning = features[index].meaning
        words = f"{features[index].words or name}: {_told(meaning, values[index])}"
        if low <= values[index] <= high:
            words += ", seldom together with the rest"
        else:
            words += f" where 95 % lie from {_told(meaning, low)} to {_told(meaning, high)}"
        return Reason(name, rounded, usual, round(share, 3), words)


def _groups(features: Features) -> list[list[int]]:
    names = [one.name for one in features]
    pairs = [[names.index(f"{what}_sin"), names.index(f"{what}_cos")] for what in ("hour", "week")]
    paired = {index for pair in pairs for index in pair}
    return [*pairs, *([index] for index in range(len(names)) if index not in paired)]


def _told(meaning: str, value: float) -> str:
    """Logarithms are told as what they are of."""
    number = math.expm1(value) if meaning.startswith("log(1 + ") else value
    unit = " h" if "hours since" in meaning else " bits" if meaning.startswith("bits") else ""
    return f"{number:.0f}{unit}" if abs(number) >= 10 or number == int(number) else f"{number:.2g}{unit}"


def _clock(hour: float) -> str:
    minutes = int(hour * 60 + 1e-6) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def usual_hours(hours: Sequence[int], share: float = 0.95) -> tuple[int, int]:
    """The shortest stretch of whole hours that holds the share: its first hour, and the hour at which it ends."""
    total = sum(hours)
    for length in range(1, 25):
        best = max(range(24), key=lambda begin: sum(hours[(begin + i) % 24] for i in range(length)))
        if sum(hours[(best + i) % 24] for i in range(length)) >= share * total:
            return best, (best + length) % 24 or 24
    return 0, 24


def stability(profile: Profile, values: Sequence[float]) -> float:
    """Population stability index of recent values against the training data: under 0.1 alike, above 0.25 another
    population (Siddiqi, "Credit Risk Scorecards", 2006)."""
    counts = [0] * len(profile.shares)
    for value in values:
        counts[bisect_left(profile.edges, value)] += 1
    total, index = len(values), 0.0
    for expected, count in zip(profile.shares, counts, strict=True):
        e, a = max(expected, 0.005), max(count / total, 0.005)
        index += (a - e) * math.log(a / e)
    return index


def _must(holds: bool) -> None:
    if not holds:
        raise Integrity("model_malformed", "the model is not whole: its numbers make no sense", "train it again")
