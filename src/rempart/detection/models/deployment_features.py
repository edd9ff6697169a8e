"""Features of deployments, from `delivery.deployment`. One row for each that was made, refused or rolled back.

`details`: `release` (what), `environment` (where), `digest` (the image's); `before`, `after`: documents of settings.
Who deployed is `person`, `workload` or `operator`. State: MAX_RELEASES releases and MAX_ACTORS actors.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from rempart.detection.matching import Own
from rempart.kernel.event import EventType

from .model import Feature, Row, make_row
from .remembered import Remembered, newness, see
from .time_features import CLOCK, DAY, clock, count_hour, hour_index, surprise

MAX_RELEASES = 1024
MAX_ACTORS = 1024
_MOST_LOG = math.log1p(90 * 24)
_CHANGES = 200

FEATURES = (
    *CLOCK,
    Feature(
        "own_hour", "bits of surprise at the hour, by the actor's own deployments", 0, 8, "this hour for this actor"
    ),
    Feature(
        "since",
        "log(1 + hours since the release was last deployed there), 90 days at most",
        0,
        _MOST_LOG,
        "time since the last deployment",
    ),
    Feature("day", "log(1 + deployments of the release within a day)", 0, math.log1p(64), "deployments within a day"),
    Feature(
        "actor_new",
        "1 when the actor never deployed this release, 0.5 a day later, 0.2 after four",
        0,
        1,
        "who deployed it",
    ),
    Feature("actor_rare", "share of the release's deployments that others made", 0, 1, "an actor who seldom does"),
    Feature(
        "environment_new",
        "1 for the first time in an environment of a release that is known from others",
        0,
        1,
        "a new environment",
    ),
    Feature(
        "same_digest", "1 when the image is the one that ran already, or an older one", 0, 1, "an image that ran before"
    ),
    Feature(
        "changes", "log(1 + settings that differ between before and after)", 0, math.log1p(_CHANGES), "changed settings"
    ),
    Feature("refused", "1 when it was refused or failed", 0, 1, "a refusal"),
)


class _Release(msgspec.Struct, array_like=True):
    last: float = 0.0
    times: list[float] = []
    actors: dict[str, float] = {}
    counts: dict[str, int] = {}
    environments: dict[str, float] = {}
    digests: dict[str, float] = {}


class _Actor(msgspec.Struct, array_like=True):
    hours: list[float] = msgspec.field(default_factory=lambda: [0.0] * 24)


class DeploymentFeatures:
    features = FEATURES

    def __init__(self) -> None:
        self.releases: Remembered[_Release] = Remembered(MAX_RELEASES, _Release)
        self.actors: Remembered[_Actor] = Remembered(MAX_ACTORS, _Actor)

    def take(self, own: Own, kind: str, at: float) -> list[Row]:
        details = own.get("details")
        if kind != EventType.DEPLOYMENT or type(details) is not dict:
            return []
        release, environment = str(details.get("release") or "")[:128], str(details.get("environment") or "")[:64]
        actor = _actor(own)
        known, who = self.releases.of(f"{release} {environment}"), self.actors.of(actor)
        hour, first = hour_index(at), not known.last
        total = sum(known.counts.values())
        digest = str(details.get("digest") or "")[:128]
        known.times = [*(one for one in known.times if abs(at - one) < DAY), at][-64:]
        values = clock(at) | {
            "own_hour": surprise(who.hours, hour),
            "since": _MOST_LOG if first else math.log1p(max(0.0, at - known.last) / 3600),
            "day": math.log1p(len(known.times) - 1),
            "actor_new": newness(see(known.actors, actor, at, 32), at, first=first),
            "actor_rare": 1 - known.counts.get(actor, 0) / total if total else 0.0,
            "environment_new": float(first and total == 0 and self._elsewhere(release, environment)),
            "same_digest": float(bool(digest) and see(known.digests, digest, at, 64) is not None),
            "changes": math.log1p(_changes(own.get("before"), own.get("after"))),
            "refused": float(own.get("success") is not True),
        }
        if actor not in known.counts and len(known.counts) >= 32:
            del known.counts[min(known.counts, key=lambda one: known.counts[one])]
        known.counts[actor] = known.counts.get(actor, 0) + 1
        known.last = max(known.last, at)
        count_hour(who.hours, hour)
        return [make_row(FEATURES, at, str(own["id"]), actor, values)]

    def _elsewhere(self, release: str, environment: str) -> bool:
        """Whether the release is known from another environment."""
        return any(
            name.rpartition(" ")[0] == release and name.rpartition(" ")[2] != environment for name in self.releases
        )

    def forget(self, actor: str) -> None:
        self.actors.pop(actor)
        for release in self.releases:
            if (known := self.releases.peek(release)) is not None:
                known.actors.pop(actor, None)
                known.counts.pop(actor, None)

    def snapshot(self) -> Any:
        return [self.releases.snapshot(), self.actors.snapshot()]

    def restore(self, content: Any) -> None:
        self.releases.restore((key, msgspec.convert(one, _Release)) for key, one in content[0])
        self.actors.restore((key, msgspec.convert(one, _Actor)) for key, one in content[1])


def _actor(own: Own) -> str:
    for name in ("person", "workload", "operator"):
        value = own.get(name)
        if type(value) is str and value:
            return f"{name}:{value[:256]}"
    return "operator:unknown"


def _changes(before: Any, after: Any) -> int:
    """Leaves that differ, at most _CHANGES."""
    if type(before) is not dict or type(after) is not dict:
        return 0
    old, new = _leaves(before), _leaves(after)
    return min(_CHANGES, sum(old.get(key) != new.get(key) for key in old.keys() | new.keys()))


def _leaves(document: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    left: list[tuple[str, Any, int]] = [("", document, 0)]
    while left and len(found) < 4 * _CHANGES:
        where, value, depth = left.pop()
        if type(value) is dict and depth < 8:
            left.extend((f"{where}.{name}", inner, depth + 1) for name, inner in list(value.items())[: 4 * _CHANGES])
        else:
            found[where] = repr(value)[:200]
    return found
