"""The rules over the stream of events: compiled once, fed one event after the other, alerts out.

Deterministic: the same events in the same order give the same alerts with the same ids, live, after a restart from a
snapshot, and in a replay. Not thread-safe. Memory is bounded by groups (`groups.MAX_GROUPS` for each correlation, each
with at most `max_cells` entries), not by events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel.errors import BadInput
from rempart.kernel.event import EventType
from rempart.protocols.event_catalogue import is_told

from .groups import MAX_GROUPS, Correlator, Signal
from .heard import Recent, own_of
from .history import GeoVelocity, Inactivity, NewTerms, OutOfOrder, joined
from .log_clock import LogClock
from .matching import Getter, Own, getter, refuse
from .model import Alert, Origin
from .rule import Correlation, Detection, Kind, Rule
from .ruleset import Ruleset
from .windows import EventCount, Temporal, TemporalOrdered, ValueCount

FLOOD = 30  # alerts of one rule in an hour; then one that says there are more
_HOUR = 3600.0
_MAX_WEIGHT = 10_000
_OWN = frozenset((EventType.ALERT_RAISED,))  # what the watch says itself is no evidence of anything


@dataclass
class _Node:
    """A rule in the graph: what it feeds, and whether it speaks for itself."""

    rule: Detection | Correlation
    speaks: bool = True
    feeds: list[tuple[_Node, int]] = field(default_factory=list)
    correlator: Correlator | None = None
    fired: list[float] = field(default_factory=list)  # of the last hour, FLOOD at most
    flooded: float | None = None


@dataclass
class Counts:
    """Since the engine was made."""

    events: int = 0
    repeated: int = 0
    unreadable: int = 0
    suppressed: int = 0
    alerts: dict[str, int] = field(default_factory=dict)


class Engine:
    def __init__(self, ruleset: Ruleset, *, max_groups: int = MAX_GROUPS) -> None:
        rules = ruleset.rules
        self.clock = LogClock()
        self.counts = Counts(alerts={rule.name: 0 for rule in rules})
        self._enrichment = ruleset.enrichment
        self._nodes = {rule.name: _Node(rule) for rule in rules}
        self._by_type: dict[str, list[_Node]] = {}
        self._recent = Recent()
        by_reference = {reference: self._nodes[rule.name] for rule in rules for reference in (rule.name, rule.id)}
        spoken_for: dict[str, bool] = {}
        for node in self._nodes.values():
            if isinstance(node.rule, Correlation):
                node.correlator = self._correlator(node.rule, by_reference, max_groups)
                for number, reference in enumerate(node.rule.rules):
                    base = by_reference[reference]
                    base.feeds.append((node, number))
                    spoken_for[base.rule.name] = spoken_for.get(base.rule.name, False) or node.rule.generate
        for name, generate in spoken_for.items():  # specification: what a correlation refers to is silent by itself
            self._nodes[name].speaks = generate

    @property
    def correlators(self) -> Mapping[str, Correlator]:
        return {name: node.correlator for name, node in self._nodes.items() if node.correlator is not None}

    @property
    def rules(self) -> list[Rule]:
        return [node.rule for node in self._nodes.values()]

    def speaks(self, name: str) -> bool:
        """Whether the rule gives alerts (or signals) of its own, not only to correlations."""
        return self._nodes[name].speaks

    # -- the stream ----------------------------------------------------------------------------------------------

    def take(self, payload: bytes) -> list[Alert]:
        """The next event of the log, as its OCSF JSON. What is no event of ours is counted and left alone."""
        try:
            own = own_of(payload)
        except BadInput:
            self.counts.unreadable += 1
            return []
        return self.take_own(own)

    def take_own(self, own: Own) -> list[Alert]:
        """As `take`, for what stands under `unmapped.rempart`."""
        counts = self.counts
        counts.events += 1
        kind, id, at = own.get("type"), own.get("id"), own.get("at")
        if not isinstance(kind, str) or not isinstance(id, str) or not isinstance(at, int | float) or kind in _OWN:
            counts.unreadable += kind not in _OWN
            return []
        source = str(own.get("source"))
        if self._recent.again(own, source, id):
            counts.repeated += 1
            return []
        seconds = self.clock.read(kind, source, at / 1000)
        nodes = self._by_type.get(kind)
        if nodes is None:
            nodes = self._about(kind)
        alerts: list[Alert] = []
        signal: Signal | None = None
        for node in nodes:
            if node.rule.matches(own):  # type: ignore[union-attr]  # `_about` gives detections only
                if signal is None:
                    signal = Signal(own, id, seconds, seconds, _weight(kind, own), (id,), score=_score(kind, own))
                self._pass_on(node, signal, alerts)
        return alerts

    def _about(self, kind: str) -> list[_Node]:
        nodes = [
            node
            for node in self._nodes.values()
            if isinstance(node.rule, Detection) and (node.rule.types is None or kind in node.rule.types)
        ]
        if len(self._by_type) < 256:
            self._by_type[kind] = nodes
        return nodes

    def _pass_on(self, node: _Node, signal: Signal, alerts: list[Alert]) -> None:
        if node.speaks and (alert := self._alert(node, signal)) is not None:
            alerts.append(alert)
        for following, number in node.feeds:
            if following.correlator is None:
                continue
            firing = following.correlator.observe(number, signal, self.clock.now)
            if firing is not None:
                self._pass_on(following, firing, alerts)

    def _alert(self, node: _Node, signal: Signal) -> Alert | None:
        """None when the rule has said it often enough: a flood of alerts would hide the one that matters."""
        now = self.clock.now
        node.fired = [at for at in node.fired if abs(now - at) < _HOUR]
        rule, more = node.rule, False
        if len(node.fired) >= FLOOD:
            if node.flooded is not None and abs(now - node.flooded) < _HOUR:
                self.counts.suppressed += 1
                return None
            node.flooded, more = now, True
        else:
            node.fired.append(now)
        self.counts.alerts[rule.name] += 1
        span = rule.timespan if isinstance(rule, Correlation) else 0.0
        reason = rule.reason.format(count=signal.count, values=signal.values, span=in_words(span))
        if more:
            reason = f"more than {FLOOD} groups within an hour, further ones are only counted: {reason}"
        return Alert(
            id=_id(rule, signal),
            rule=rule.name,
            title=rule.title,
            severity=rule.severity,
            first=signal.first,
            last=max(signal.first, signal.at),
            reason=reason,
            evidence=signal.evidence,
            count=signal.count,
            attack=rule.attack,
            principals=principals(rule, signal),
            origin=Origin.RULE if signal.score is None else Origin.RULE_AND_MODEL,
            score=signal.score,
        )

    # -- making --------------------------------------------------------------------------------------------------

    def _correlator(self, rule: Correlation, nodes: Mapping[str, _Node], max_groups: int) -> Correlator:
        names = [nodes[reference].rule.name for reference in rule.rules]
        keys = [[self._getter(rule, field, name) for field in rule.group_by] for name in names]
        fields = [joined([self._getter(rule, field, name) for field in rule.fields]) for name in names]
        match rule.kind:
            case Kind.EVENT_COUNT:
                return EventCount(rule, keys, max_groups=max_groups)
            case Kind.VALUE_COUNT:
                return ValueCount(rule, keys, fields=fields, max_groups=max_groups)
            case Kind.TEMPORAL:
                return Temporal(rule, keys, max_groups=max_groups)
            case Kind.TEMPORAL_ORDERED:
                return TemporalOrdered(rule, keys, max_groups=max_groups)
            case Kind.NEW_TERMS:
                return NewTerms(rule, keys, fields=fields, max_groups=max_groups)
            case Kind.INACTIVITY:
                return Inactivity(rule, keys, max_groups=max_groups)
            case Kind.GEO_VELOCITY:
                where = [self._enrichment.coordinates] * len(keys)
                return GeoVelocity(rule, keys, fields=where, max_groups=max_groups)
            case Kind.OUT_OF_ORDER:
                return OutOfOrder(rule, keys, max_groups=max_groups)
        raise refuse(rule.name, f"{rule.kind} is not known")  # pragma: no cover - the match above is complete

    def _getter(self, rule: Correlation, field: str, name: str) -> Getter:
        return getter(rule.aliases.get(field, {}).get(name, field), self._enrichment.fields)

    def clear(self) -> None:
        """Forget everything, as if no event had been taken yet."""
        self.clock = LogClock()
        self._recent = Recent()
        for node in self._nodes.values():
            node.fired, node.flooded = [], None
            if node.correlator is not None:
                node.correlator.restore([])

    # -- outliving a restart -------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All that the next event depends on; for `restore` of an engine with the same rules, or some of them."""
        return {
            "clock": self.clock.snapshot(),
            "recent": self._recent.snapshot(),
            "rules": {
                name: {
                    "as": _fingerprint(node.rule),
                    "groups": node.correlator.snapshot() if node.correlator else [],
                    "fired": node.fired,
                    "flooded": node.flooded,
                }
                for name, node in self._nodes.items()
            },
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """A rule that says something else than when the snapshot was made begins anew.

        Raises BadInput `bad_snapshot`.
        """
        try:
            self.clock.restore(content["clock"])
            self._recent.restore(content["recent"])
            for name, kept in content["rules"].items():
                node = self._nodes.get(name)
                if node is None or kept["as"] != _fingerprint(node.rule):
                    continue
                node.fired, node.flooded = list(kept["fired"]), kept["flooded"]
                if node.correlator is not None:
                    node.correlator.restore(kept["groups"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadInput("bad_snapshot", f"the detector's state can't be read: {error!r}"[:300]) from None


def _weight(kind: str, own: Own) -> int:
    """How many events this one stands for: refusals that are alike are recorded as one with a count."""
    details = own.get("details")
    if type(details) is not dict or is_told(kind, str(own.get("source"))):
        return 1
    said = details.get("count") or details.get("repeated")
    return min(said, _MAX_WEIGHT) if type(said) is int and said > 1 else 1


def _score(kind: str, own: Own) -> float | None:
    """What the models said, in what they recorded themselves."""
    details = own.get("details")
    if kind != EventType.RISK_RAISED or own.get("source") != "models" or type(details) is not dict:
        return None
    said = details.get("score")
    return min(max(float(said), 0.0), 1.0) if isinstance(said, int | float) else None


def _id(rule: Rule, signal: Signal) -> str:
    text = "\x1f".join((rule.id, signal.id, *signal.key))
    return "alr_" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:26]


def _fingerprint(rule: Detection | Correlation) -> str:
    if isinstance(rule, Detection):
        return rule.id
    said = (rule.id, rule.kind, rule.rules, rule.group_by, rule.timespan, rule.fields, rule.threshold, rule.limit)
    return hashlib.sha256(repr((said, rule.learning, rule.distance, sorted(rule.aliases))).encode()).hexdigest()[:16]


# Fields whose values are references (ids), never addresses, names or text that an outsider chose.
_REFERENCES = {
    "person": "person",
    "workload": "workload",
    "details.account": "account",
    "details.session": "session",
    "details.input.jwt.sid": "session",
    "details.client": "client",
    "details.passkey": "passkey",
    "source": "process",
    "service": "service",
}
_REFERENCE_GETTERS = {name: getter(name) for name in _REFERENCES}
_MAX_REFERENCE = 256


def principals(rule: Rule, signal: Signal) -> tuple[str, ...]:
    """Whom it is about: what the rule groups by; for a rule over single events all that the event refers to."""
    fields = rule.group_by if isinstance(rule, Correlation) else tuple(_REFERENCES)
    if isinstance(rule, Correlation) and rule.aliases:
        fields = ("person",)
    found = set()
    for name in fields:
        if name in _REFERENCES:
            value = _REFERENCE_GETTERS[name](signal.own)
            if type(value) is str and 0 < len(value) <= _MAX_REFERENCE and value.isprintable() and "@" not in value:
                found.add(f"{_REFERENCES[name]}:{value}")
    return tuple(sorted(found))


def in_words(seconds: float) -> str:
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= length and seconds % length == 0:
            number = int(seconds // length)
            return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
    return "no time"
