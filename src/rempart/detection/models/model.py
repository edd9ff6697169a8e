"""What the models speak about: features, rows of them, levels of risk, and what is said of one row."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec


class Subject(StrEnum):
    """What a model is about; the estimator that judges it (scikit-learn's names) is in `ESTIMATORS`."""

    LOGINS = "logins"
    API = "api"
    DEPLOYMENTS = "deployments"


ESTIMATORS: Mapping[Subject, str] = {
    Subject.LOGINS: "IsolationForest",
    Subject.API: "OneClassSVM",
    Subject.DEPLOYMENTS: "LocalOutlierFactor",
}


class Level(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Feature:
    """`name` is what models and reasons say, `meaning` says how it is made; values lie within [least, most]."""

    name: str
    meaning: str
    least: float
    most: float
    words: str = ""

    def bounded(self, value: float) -> float:
        return min(max(value, self.least), self.most)


Features = Sequence[Feature]


def digest_of(features: Features) -> str:
    """Which features a model was made for: SHA-256 over names, bounds and meanings. Another meaning, another model."""
    told = [[one.name, one.meaning, one.least, one.most] for one in features]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


class Row(msgspec.Struct, frozen=True, array_like=True):
    """The features of one login, of a principal's use of the API in one window, or of one deployment.

    `id` is the event's (of a window the last one's), `at` its time in seconds since the epoch; `packed` the values as
    little-endian float32, as scikit-learn's trees compare them.
    """

    at: float
    id: str
    principal: str
    packed: bytes

    @property
    def values(self) -> tuple[float, ...]:
        return struct.unpack(f"<{len(self.packed) // 4}f", self.packed)


def make_row(features: Features, at: float, id: str, principal: str, values: Mapping[str, float]) -> Row:
    """Clips each value to its feature's bounds."""
    ordered = [feature.bounded(values[feature.name]) for feature in features]
    return Row(at, id, principal, struct.pack(f"<{len(ordered)}f", *ordered))


class Reason(msgspec.Struct, frozen=True):
    """One feature that makes the row unusual. `usual` holds 95 % of the training data; `share` is how much of the
    anomaly goes when the value is replaced by the median (0 to 1)."""

    feature: str
    value: float
    usual: tuple[float, float]
    share: float
    words: str


class Rating(msgspec.Struct, frozen=True):
    """`score` from 0 to 1: the share of calibration data that is less unusual. `model` is `SUBJECT-SERIAL`."""

    subject: Subject
    principal: str
    at: float
    id: str
    score: float
    raw: float
    level: Level
    model: str
    reasons: tuple[Reason, ...] = ()
    pooled: bool = False

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found
