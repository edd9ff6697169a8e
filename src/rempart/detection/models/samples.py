"""Rows to learn from: bounded, and chosen so that nobody can teach the models much.

What is left out of training, and why:
* rows of the last hour: an alert about them may still come;
* rows of principals that were first seen less than NEWCOMER ago: who makes accounts to teach with them has to wait;
* rows that are evidence of an alert, and those of its principals from an hour before it to an hour after;
* rows while `rempart attack` ran;
* rows that the model of their time rated high, but no more than TRIMMED of all: a change of everybody's ways is learnt;
* of one principal, all but the newest: MOST_SHARE of all rows, as many as the middle one of all principals has, or
  LEAST_EACH, whatever is most. So a busy account can't decide what is usual, and a team of five still has a model.

Bounded by PRINCIPALS, EACH and TOTAL; the principal that was left alone longest goes first, then its oldest rows.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .model import Row

HOUR, DAY = 3600.0, 86_400.0
SETTLED = HOUR
NEWCOMER = 3 * DAY
AROUND = HOUR
ATTACK_AROUND = 600.0
TRIMMED = 0.02
MOST_SHARE = 0.02
LEAST_EACH = 30
PRINCIPALS, EACH, TOTAL = 2000, 400, 20_000
_MARKS = 4096


class Sample(msgspec.Struct, array_like=True):
    row: Row
    marked: bool = False  # by an alert or an attack
    high: bool = False

    def __lt__(self, other: Sample) -> bool:
        return (self.row.at, self.row.id) < (other.row.at, other.row.id)


class _Kept(msgspec.Struct, array_like=True):
    first: float  # when the principal was first seen, whatever was forgotten since
    samples: list[Sample] = []


@dataclass(frozen=True, slots=True)
class Chosen:
    """`left_out` counts by reason."""

    rows: Sequence[Row]
    left_out: dict[str, int]


class Samples:
    """Of one subject. Deterministic; not thread-safe."""

    def __init__(self, *, total: int = TOTAL, each: int = EACH, principals: int = PRINCIPALS) -> None:
        self._total, self._each, self._principals = total, each, principals
        self._kept: dict[str, _Kept] = {}
        self._by_id: dict[str, Sample] = {}
        self._quiet: list[tuple[float, float]] = []  # while attacks ran
        self._alerts: dict[str, list[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, row: Row, *, high: bool = False) -> None:
        """A row that comes again is the same row."""
        if row.id in self._by_id:
            return
        kept = self._kept.pop(row.principal, None) or _Kept(row.at)
        kept.first = min(kept.first, row.at)
        self._kept[row.principal] = kept
        marked = self._known_bad(row)
        sample = Sample(row, marked, high)
        insort(kept.samples, sample)
        self._by_id[row.id] = sample
        if len(kept.samples) > self._each:
            self._forget(kept)
        while len(self._by_id) > self._total or len(self._kept) > self._principals:
            self._make_room(row.principal)

    def alert(self, principals: Iterable[str], evidence: Iterable[str], first: float, last: float) -> None:
        """Nothing is learnt from what an alert rests on, nor from its principals around it."""
        for id in evidence:
            if (sample := self._by_id.get(id)) is not None:
                sample.marked = True
        span = (first - AROUND, last + AROUND)
        for principal in principals:
            if len(self._alerts) >= _MARKS and principal not in self._alerts:
                del self._alerts[next(iter(self._alerts))]
            spans = self._alerts.setdefault(principal, [])
            spans.append(span)
            del spans[:-8]
            kept = self._kept.get(principal)
            for sample in kept.samples if kept else ():
                sample.marked |= span[0] <= sample.row.at <= span[1]

    def erase(self, principal: str) -> None:
        """A person was erased: what they did is forgotten."""
        kept = self._kept.pop(principal, None)
        for sample in kept.samples if kept else ():
            del self._by_id[sample.row.id]
        self._alerts.pop(principal, None)

    def attack(self, at: float) -> None:
        """`rempart attack` ran at that time."""
        begin, end = at - ATTACK_AROUND, at + ATTACK_AROUND
        if self._quiet and self._quiet[-1][0] <= begin <= self._quiet[-1][1]:
            begin = self._quiet.pop()[0]
        self._quiet.append((begin, end))
        del self._quiet[:-64]
        for sample in self._by_id.values():
            sample.marked |= begin <= sample.row.at <= end

    def choose(self, now: float) -> Chosen:
        """What to train on, oldest first."""
        left_out = dict.fromkeys(("recent", "newcomers", "alerts", "rated high", "share"), 0)
        found: dict[str, list[Sample]] = {}
        for principal, kept in self._kept.items():
            if kept.first > now - NEWCOMER:
                left_out["newcomers"] += len(kept.samples)
                continue
            settled = [one for one in kept.samples if one.row.at <= now - SETTLED]
            good = [one for one in settled if not one.marked]
            left_out["recent"] += len(kept.samples) - len(settled)
            left_out["alerts"] += len(settled) - len(good)
            if good:
                found[principal] = good
        total = sum(map(len, found.values()))
        middle = sorted(map(len, found.values()))[len(found) // 2] if found else 0
        most = max(LEAST_EACH, int(total * MOST_SHARE), middle)
        chosen: list[Sample] = []
        for good in found.values():
            chosen += good[-most:]
            left_out["share"] += max(0, len(good) - most)
        high = sorted(one for one in chosen if one.high)[-int(len(chosen) * TRIMMED) :] if chosen else []
        if int(len(chosen) * TRIMMED):
            trimmed = {one.row.id for one in high}
            left_out["rated high"] = len(trimmed)
            chosen = [one for one in chosen if one.row.id not in trimmed]
        return Chosen([one.row for one in sorted(chosen)], left_out)

    def since(self, at: float) -> list[Row]:
        """All rows from then on, whatever was said of them: what drift is measured on."""
        return [one.row for one in self._by_id.values() if one.row.at >= at]

    def _known_bad(self, row: Row) -> bool:
        spans = [*self._quiet, *self._alerts.get(row.principal, ())]
        return any(begin <= row.at <= end for begin, end in spans)

    def _make_room(self, newest: str) -> None:
        for principal in self._kept:
            if principal != newest or len(self._kept) == 1:
                kept = self._kept[principal]
                self._forget(kept)
                if not kept.samples:
                    del self._kept[principal]
                return

    def _forget(self, kept: _Kept) -> None:
        if kept.samples:
            del self._by_id[kept.samples.pop(0).row.id]

    def snapshot(self) -> Any:
        return [list(self._kept.items()), self._quiet, list(self._alerts.items())]

    def restore(self, content: Any) -> None:
        self._kept = {str(name): msgspec.convert(kept, _Kept) for name, kept in content[0]}
        self._by_id = {one.row.id: one for kept in self._kept.values() for one in kept.samples}
        self._quiet = [(float(begin), float(end)) for begin, end in content[1]]
        self._alerts = {str(n): [(float(b), float(e)) for b, e in spans] for n, spans in content[2]}
