"""Sigma's four correlations as sliding windows over event time.

A window is any stretch of `timespan` that contains the event at hand, so that an event which comes late completes what
it would have completed in time. An event counts once in a group, however often it is told.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

from .groups import Correlator, Signal, evidence_of


class EventCount(Correlator):
    """State: [what entries stand for beyond one each, [(at, id, count), …] by time]."""

    @property
    def max_cells(self) -> int:
        return max(2 * self.rule.threshold, 64)

    def fresh(self) -> Any:
        return [0, []]

    def held(self, state: Any) -> int:
        return len(state[1]) + int(state[0])

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        entries: list[Any] = state[1]
        at = signal.at
        entry = [at, signal.id, signal.count]
        in_order = not entries or entries[-1][0] <= at
        place = bisect_left(entries, [at, signal.id])
        if place < len(entries) and entries[place][1] == signal.id:
            return None
        if in_order:
            entries.append(entry)
        else:
            insort(entries, entry)
        state[0] += signal.count - 1
        threshold, span = self.rule.threshold, self.rule.timespan
        oldest = now - self.retention
        while entries[0][0] < oldest or len(entries) > self.max_cells:
            state[0] -= entries.pop(0)[2] - 1
            if not entries:
                return None
        if quiet or len(entries) + state[0] < threshold:
            return None
        if in_order and not state[0]:  # the usual case: the last `threshold` events lie in the window, or don't
            if len(entries) < threshold or entries[-threshold][0] <= at - span:
                return None
            start = bisect_left(entries, [at - span + 1e-9])
            return self._firing(signal, entries[start:])
        return self._search(signal, entries, threshold, span)

    def _search(self, signal: Signal, entries: list[Any], threshold: int, span: float) -> Signal | None:
        total, end = 0, 0
        for start, (begin, _, count) in enumerate(entries):
            while end < len(entries) and entries[end][0] < begin + span:
                total += entries[end][2]
                end += 1
            if total >= threshold and begin <= signal.at < begin + span:
                return self._firing(signal, entries[start:end])
            total -= count
        return None

    def _firing(self, signal: Signal, entries: list[Any]) -> Signal:
        evidence = evidence_of([id for _, id, _ in entries])
        count = sum(count for _, _, count in entries)
        return Signal(signal.own, signal.id, entries[-1][0], entries[0][0], count, evidence)


class ValueCount(Correlator):
    """State: {value: [at, id]}, the newest event of each value."""

    def __init__(self, *args: Any, fields: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fields = fields

    @property
    def max_cells(self) -> int:
        return max(4 * self.rule.threshold, 64)

    def fresh(self) -> Any:
        return {}

    def held(self, state: Any) -> int:
        return len(state)

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        value = self._fields[which](signal.own)
        if not value:
            return None
        known = state.pop(value, None)
        late = known is not None and known[0] > signal.at
        state[value] = known if late else [signal.at, signal.id]
        oldest = now - self.retention
        while len(state) > 1:
            first = next(iter(state))
            if len(state) <= self.max_cells and state[first][0] >= oldest:
                break
            del state[first]
        threshold, span = self.rule.threshold, self.rule.timespan
        if quiet or len(state) < threshold:
            return None
        near = sorted((at, id) for at, id in state.values() if abs(at - signal.at) < span)
        end = 0
        for start, (begin, _) in enumerate(near):
            while end < len(near) and near[end][0] < begin + span:
                end += 1
            if end - start >= threshold and begin <= signal.at < begin + span:
                chosen = near[start:end]
                evidence = evidence_of([id for _, id in chosen])
                return Signal(signal.own, signal.id, chosen[-1][0], begin, len(chosen), evidence, len(chosen))
        return None


class Temporal(Correlator):
    """State: for each rule [[at, id, first, count, [evidence], score], …] by time, the newest few. In order or in any.

    A snapshot of an earlier version has no score."""

    _KEPT = 8

    @property
    def max_cells(self) -> int:
        return self._KEPT * len(self.rule.rules)

    def fresh(self) -> Any:
        return [[] for _ in self.rule.rules]

    def held(self, state: Any) -> int:
        return sum(map(len, state))

    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        entries = state[which]
        entry = [signal.at, signal.id, signal.first, signal.count, list(signal.evidence), signal.score]
        if any(known[1] == signal.id for known in entries):
            return None
        insort(entries, entry)
        del entries[: -self._KEPT]
        if quiet or entry not in entries or not all(state):
            return None
        chosen = self._chosen(state, which, entry)
        if chosen is None:
            return None
        ids = [id for one in sorted(chosen) for id in one[4]]
        evidence = evidence_of(ids)
        first, count = min(one[2] for one in chosen), sum(one[3] for one in chosen)
        scores = [one[5] for one in chosen if len(one) > 5 and one[5] is not None]
        last, score = max(one[0] for one in chosen), max(scores, default=None)
        return Signal(signal.own, signal.id, last, first, count, evidence, score=score)

    def _chosen(self, state: Any, which: int, entry: Any) -> list[Any] | None:
        """One entry of each rule with `entry` among them, all within the timespan: those nearest to it."""
        span = self.rule.timespan
        near = [
            entry if number == which else min(e, key=lambda o: abs(o[0] - entry[0])) for number, e in enumerate(state)
        ]
        times = [one[0] for one in near]
        return near if max(times) - min(times) < span else None


class TemporalOrdered(Temporal):
    def _chosen(self, state: Any, which: int, entry: Any) -> list[Any] | None:
        chain = [entry]
        for earlier in reversed(state[:which]):
            found = [one for one in earlier if one[0] <= chain[0][0]]
            if not found:
                return None
            chain.insert(0, found[-1])
        for later in state[which + 1 :]:
            found = [one for one in later if one[0] >= chain[-1][0]]
            if not found:
                return None
            chain.append(found[0])
        return chain if chain[-1][0] - chain[0][0] < self.rule.timespan else None
