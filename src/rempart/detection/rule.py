"""Rules as data: Sigma files (specification 2.1) read, checked and kept as they say it.

Standard correlation types: `event_count`, `value_count`, `temporal`, `temporal_ordered`. What Sigma can't say has types
of its own, under the names the field has for them; a foreign tool refuses these instead of misreading them:

* `new_terms` (as Elastic calls it): a value of `field` that its group never showed within `timespan`; a group teaches
  for `learning` before it can be wrong.
* `inactivity`: the group was silent for longer than `timespan` and is back.
* `geo_velocity`: two places of one group, further apart than a traveller gets (`gt` in km/h, `distance` in km).
* `out_of_order`: an event older than the newest of its group by more than `timespan`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rempart.kernel.event import Severity

from .condition import compile_condition
from .matching import Getter, Predicate, refuse, selection

_NAME = re.compile(r"[a-z][a-z0-9_]{1,63}")
_TECHNIQUE = re.compile(r"attack\.(t[0-9]{4}(?:\.[0-9]{3})?)")
_TIMESPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PLACEHOLDER = re.compile(r"\{([a-z]*)\}")
_LEVELS = {
    "informational": Severity.INFO,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}
_KNOWN = frozenset(
    (
        *("title", "id", "name", "related", "status", "description", "references", "author", "date", "modified"),
        *("tags", "logsource", "detection", "falsepositives", "level", "fields", "license", "taxonomy", "scope"),
        *("correlation", "reason"),
    )
)


class Kind(StrEnum):
    EVENT_COUNT = "event_count"
    VALUE_COUNT = "value_count"
    TEMPORAL = "temporal"
    TEMPORAL_ORDERED = "temporal_ordered"
    NEW_TERMS = "new_terms"
    INACTIVITY = "inactivity"
    GEO_VELOCITY = "geo_velocity"
    OUT_OF_ORDER = "out_of_order"


EXTENSIONS = frozenset((Kind.NEW_TERMS, Kind.INACTIVITY, Kind.GEO_VELOCITY, Kind.OUT_OF_ORDER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What every rule says of itself. `reason` is the sentence of its alerts, with `{count}`, `{span}`, `{values}`."""

    name: str
    id: str
    title: str
    description: str
    severity: Severity
    attack: tuple[str, ...]
    falsepositives: tuple[str, ...]
    reason: str

    @property
    def alerts(self) -> bool:
        """Sigma: what is `low` or `informational` is notable in combination and calls nobody by itself."""
        return self.severity not in (Severity.INFO, Severity.LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection(Rule):
    """A rule over single events. `types` are the event types it can be about, None for any."""

    matches: Predicate = field(repr=False)
    types: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation(Rule):
    """`timespan`, `learning` in seconds. `threshold` counts events or values; `limit` is km/h, `distance` km.

    `aliases` maps a name in `group_by` to the field it stands for in each rule.
    """

    kind: Kind
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan: float
    generate: bool = False
    threshold: int = 1
    fields: tuple[str, ...] = ()
    learning: float = 0.0
    limit: float = 0.0
    distance: float = 0.0
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_rule(document: object, where: str, enrich: Mapping[str, Getter]) -> Detection | Correlation:
    """One document of a file. Raises BadInput `bad_rule` with what to correct; unknown keys are refused."""
    if not isinstance(document, dict):
        raise refuse(where, "it is no map")
    name = document.get("name", "")
    where = f"{where} ({name})" if name else where
    unknown = sorted(str(key) for key in set(document) - _KNOWN)
    if unknown:
        raise refuse(where, f"it has keys that no rule has: {', '.join(unknown)}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refuse(where, "it needs a `name` of small letters, digits and underscores")
    about = _about(document, name, where)
    if "correlation" in document:
        if "detection" in document:
            raise refuse(where, "it is a detection and a correlation at once")
        return Correlation(**about, **_correlation(document["correlation"], where))
    detection = document.get("detection")
    if not isinstance(detection, dict) or not isinstance(detection.get("condition"), str):
        raise refuse(where, "it needs a `detection` with one `condition`")
    source = document.get("logsource")
    if not isinstance(source, dict) or source.get("product") != "rempart":
        raise refuse(where, "its `logsource` is not `product: rempart`")
    selections = {
        str(key): selection(where, content, enrich) for key, content in detection.items() if key != "condition"
    }
    matches, types = compile_condition(where, detection["condition"], selections)
    return Detection(**about, matches=matches, types=types)


def _about(document: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    try:
        id = str(uuid.UUID(str(document.get("id", ""))))
    except ValueError:
        raise refuse(where, "its `id` is no UUID") from None
    level = document.get("level")
    title = document.get("title")
    if level not in _LEVELS or not isinstance(title, str) or not title:
        raise refuse(where, "it needs a `title` and a `level` from informational to critical")
    severity = _LEVELS[level]
    tags = [str(tag) for tag in document.get("tags") or []]
    attack = tuple(found[1].upper() for tag in tags if (found := _TECHNIQUE.fullmatch(tag)))
    notes = tuple(str(note) for note in document.get("falsepositives") or [])
    if severity not in (Severity.INFO, Severity.LOW) and not (attack and notes):
        raise refuse(where, "what alerts needs an ATT&CK technique in `tags` and `falsepositives`")
    reason = str(document.get("reason") or title)
    unknown = [word for word in _PLACEHOLDER.findall(reason) if word not in ("count", "span", "values")]
    if unknown or _PLACEHOLDER.sub("", reason).count("{"):
        raise refuse(where, "its `reason` knows {count}, {span} and {values} only")
    return {
        "name": name,
        "id": id,
        "title": title,
        "description": " ".join(str(document.get("description", "")).split()),
        "severity": severity,
        "attack": attack,
        "falsepositives": notes,
        "reason": reason,
    }


def _correlation(content: object, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise refuse(where, "its `correlation` is no map")
    unknown = set(content) - {"type", "rules", "group-by", "timespan", "condition", "generate", "aliases"}
    if unknown:
        raise refuse(where, f"its correlation has keys that are not read here: {', '.join(map(str, sorted(unknown)))}")
    try:
        kind = Kind(str(content.get("type")))
    except ValueError:
        raise refuse(where, f"the correlation type {content.get('type')!r} is not known") from None
    rules = content.get("rules")
    rules = [rules] if isinstance(rules, str) else rules
    if not isinstance(rules, list) or not rules or len(set(map(str, rules))) != len(rules):
        raise refuse(where, "its correlation names no `rules`, or one twice")
    group_by = content.get("group-by") or []
    group_by = [group_by] if isinstance(group_by, str) else group_by
    if not isinstance(group_by, list):
        raise refuse(where, "`group-by` is a list of fields")
    result: dict[str, Any] = {
        "kind": kind,
        "rules": tuple(map(str, rules)),
        "group_by": tuple(map(str, group_by)),
        "timespan": _seconds(content.get("timespan"), where),
        "generate": content.get("generate") is True,
        "aliases": _aliases(content.get("aliases") or {}, where),
    }
    condition = content.get("condition")
    if kind in (Kind.TEMPORAL, Kind.TEMPORAL_ORDERED):
        if condition is not None or len(rules) < 2:
            raise refuse(where, f"{kind} is about two rules or more, and takes no condition here")
    elif kind in (Kind.INACTIVITY, Kind.OUT_OF_ORDER):
        if condition is not None:
            raise refuse(where, f"{kind} takes no condition: `timespan` says it")
    elif not isinstance(condition, dict):
        raise refuse(where, f"{kind} needs a condition")
    else:
        result |= _condition(kind, condition, where)
    if not group_by and kind not in (Kind.EVENT_COUNT, Kind.VALUE_COUNT):
        raise refuse(where, f"{kind} needs `group-by`")
    return result


_CONDITION_KEYS = {
    Kind.EVENT_COUNT: {"gt", "gte"},
    Kind.VALUE_COUNT: {"gt", "gte", "field"},
    Kind.NEW_TERMS: {"field", "learning"},
    Kind.GEO_VELOCITY: {"gt", "distance"},
}
_MAX_THRESHOLD = 10_000


def _condition(kind: Kind, condition: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = set(condition) - _CONDITION_KEYS[kind]
    if unknown:
        raise refuse(where, f"{kind} can't be compared by {', '.join(map(str, sorted(unknown)))} in a stream")
    fields = condition.get("field")
    fields = [fields] if isinstance(fields, str) else fields or []
    if kind in (Kind.VALUE_COUNT, Kind.NEW_TERMS) and not fields:
        raise refuse(where, f"{kind} needs the `field` whose values it looks at")
    if kind is Kind.NEW_TERMS:
        learning = condition.get("learning")
        return {"fields": tuple(map(str, fields)), "learning": _seconds(learning, where) if learning else 0.0}
    if kind is Kind.GEO_VELOCITY:
        return {
            "limit": float(_number(condition.get("gt"), where)),
            "distance": float(_number(condition.get("distance", 100), where)),
        }
    if ("gt" in condition) == ("gte" in condition):
        raise refuse(where, "its condition is either `gt` or `gte`")
    threshold = _number(condition["gte"], where) if "gte" in condition else _number(condition["gt"], where) + 1
    if not 1 <= threshold <= _MAX_THRESHOLD:
        raise refuse(where, f"a threshold is from 1 to {_MAX_THRESHOLD}: that many are kept for each group")
    return {"threshold": threshold, "fields": tuple(map(str, fields))}


def _number(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(where, f"{value!r} is no whole number")
    return value


def _seconds(text: object, where: str) -> float:
    found = _TIMESPAN.fullmatch(str(text))
    if not found:
        raise refuse(where, f"{text!r} is no timespan such as 30s, 10m, 24h, 30d")
    return float(int(found[1]) * _SECONDS[found[2]])


def _aliases(content: object, where: str) -> dict[str, dict[str, str]]:
    if not isinstance(content, dict) or not all(isinstance(fields, dict) for fields in content.values()):
        raise refuse(where, "`aliases` maps a name to the field it stands for in each rule")
    return {str(name): {str(rule): str(field) for rule, field in fields.items()} for name, fields in content.items()}
