"""The correlations that Sigma has no words for: they compare an event with what its group did before."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import Any

from .groups import Correlator, Signal, evidence_of, text_of

_YEARS = 5 * 365 * 86_400.0
_EARTH = 6371.0  # mean radius in km
_SOONEST = 60.0  # seconds: what lies closer together counts as this far apart


class NewTerms(Correlator):
    """State: [first seen, {term: last seen}]. A group's first term is never new, nor is any before it has learned."""

    MAX_TERMS = 128

    def __init__(self, *args: Any, fields: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fields = fields
        self.retention = max(self.retention, self.rule.learning)

    @property
    def max_cells(self) -> int:
        return self.MAX_TERMS

    def fresh(self) -> Any:
        return [None, {}]

    def held(self, state: Any) -> int:
        return len(state[1])

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        term = self._fields[which](signal.own)
        if not term:
            return None
        if state[0] is None:
            state[0] = signal.at
        terms: dict[str, float] = state[1]
        known = terms.pop(term, None)
        learned = bool(terms) and signal.at - state[0] >= self.rule.learning
        terms[term] = signal.at if known is None else max(known, signal.at)
        if len(terms) > self.MAX_TERMS:
            del terms[next(iter(terms))]
        if not learned or (known is not None and signal.at - known <= self.rule.timespan):
            return None
        return Signal(signal.own, signal.id, signal.at, signal.at, 1, signal.evidence, len(terms))


class Inactivity(Correlator):
    """State: [last seen, its event's id]."""

    drops_late = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.retention = _YEARS  # who is silent is what this is about

    @property
    def max_cells(self) -> int:
        return 1

    def fresh(self) -> Any:
        return []

    def held(self, state: Any) -> int:
        return 1

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        if not state:
            state[:] = [signal.at, signal.id]
            return None
        before, id = state
        if signal.at >= before:
            state[:] = [signal.at, signal.id]
        if signal.at - before <= self.rule.timespan:
            return None
        return Signal(signal.own, signal.id, signal.at, before, 2, evidence_of([id, *signal.evidence]))


class GeoVelocity(Correlator):
    """State: [[at, latitude, longitude, id], …], the last few places of the group."""

    _KEPT = 4

    def __init__(self, *args: Any, fields: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fields = fields

    @property
    def max_cells(self) -> int:
        return self._KEPT

    def fresh(self) -> Any:
        return []

    def held(self, state: Any) -> int:
        return len(state)

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        where = self._fields[which](signal.own)
        if where is None or any(id == signal.id for *_, id in state):
            return None
        latitude, longitude = where
        found = None
        for at, other_latitude, other_longitude, id in state:
            distance = kilometres(latitude, longitude, other_latitude, other_longitude)
            hours = max(abs(signal.at - at), _SOONEST) / 3600
            if distance >= self.rule.distance and distance / hours > self.rule.limit:
                found = (at, id)
        state.append([signal.at, latitude, longitude, signal.id])
        state.sort()
        del state[: -self._KEPT]
        if found is None:
            return None
        first, last = sorted((found, (signal.at, signal.id)))
        return Signal(signal.own, signal.id, last[0], first[0], 2, (first[1], last[1]))


class OutOfOrder(Correlator):
    """State: [newest, its event's id]; once the time went back, it counts from there."""

    drops_late = False

    @property
    def max_cells(self) -> int:
        return 1

    def fresh(self) -> Any:
        return []

    def held(self, state: Any) -> int:
        return 1

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        if not state:
            state[:] = [signal.at, signal.id]
            return None
        newest, id = state
        back = signal.at < newest - self.rule.timespan
        if back or signal.at > newest:
            state[:] = [signal.at, signal.id]
        if not back:
            return None
        return Signal(signal.own, signal.id, newest, signal.at, 2, evidence_of([id, *signal.evidence]))


def kilometres(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """The great-circle distance (haversine formula); degrees in."""
    a, b = radians(latitude), radians(other_latitude)
    half = sin((b - a) / 2) ** 2 + cos(a) * cos(b) * sin(radians(other_longitude - longitude) / 2) ** 2
    return 2 * _EARTH * asin(min(1.0, sqrt(half)))


def joined(getters: Any) -> Any:
    """The fields of a new term as one text; empty when one of them is missing."""

    def term(own: Any) -> str:
        parts = [text_of(get(own)) for get in getters]
        return "" if "" in parts else "\x1f".join(parts)

    return term
