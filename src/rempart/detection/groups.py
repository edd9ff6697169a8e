"""What a correlation keeps: one small state for each group, bounded in number, in size and in time.

Times are event times in seconds. `now` is the log's clock (`log_clock.py`), so that a replay keeps and forgets exactly
what the live engine did. A group that was last touched longer ago than `retention` is forgotten; when there are more
than `max_groups`, the one of the eight least recently touched that holds least goes first: who floods the engine with
groups pushes out their own before a group that is about to fire.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from .matching import Getter, Own
from .model import MAX_EVIDENCE
from .rule import Correlation

LATE = 3600.0  # seconds that an event may come late and still count in its window
MUTE = 900.0  # seconds at least between two alerts of one group
MAX_GROUPS = 10_000
_MAX_KEY = 128  # characters of a value in a key: longer ones are kept as their digest

Key = tuple[str, ...]
Group = list[Any]  # [touched, fired at or None, what the kind of correlation keeps]: plain, so that a snapshot is quick


@dataclass(slots=True)
class Signal:
    """Something that matched: an event, or several that a correlation put together. `at` is the last one's time.

    `own` is the event that completed it. `count` is how many events it stands for.
    """

    own: Own
    id: str
    at: float
    first: float
    count: int
    evidence: tuple[str, ...]
    values: int = 0
    key: Key = field(default=())
    score: float | None = None  # a model's, where one is among the events


def text_of(value: Any) -> str:
    """A value as part of a key; empty when there is none."""
    if type(value) is str:
        return value if len(value) <= _MAX_KEY else "sha256:" + _digest(value)
    if value is None or value == "":
        return ""
    return str(value) if isinstance(value, bool | int | float) else "sha256:" + _digest(repr(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def evidence_of(ids: Sequence[str]) -> tuple[str, ...]:
    """Each once, at most MAX_EVIDENCE: of more the first and the last half."""
    unique = list(dict.fromkeys(ids))
    if len(unique) > MAX_EVIDENCE:
        half = MAX_EVIDENCE // 2
        unique = unique[:half] + unique[-half:]
    return tuple(unique)


class Correlator(ABC):
    """The state of one correlation. Not thread-safe; the same events in the same order give the same firings."""

    drops_late = True

    def __init__(self, rule: Correlation, keys: Sequence[Sequence[Getter]], *, max_groups: int = MAX_GROUPS) -> None:
        """`keys` has the getters of `group_by` for each of the rules that the correlation is about."""
        self.rule = rule
        self.groups: dict[Key, Group] = {}
        self.late = 0
        self.evicted = 0
        self.max_groups = max_groups
        self.retention = rule.timespan + LATE
        self._mute = max(min(rule.timespan, 86_400.0), MUTE)
        self._keys = keys

    def observe(self, which: int, signal: Signal, now: float) -> Signal | None:
        """A match of rule number `which`; what it completes, if anything."""
        key: Key = ()
        if self._keys[which]:
            key = tuple([text_of(get(signal.own)) for get in self._keys[which]])
            if "" in key:
                return None  # not about this group-by
        if self.drops_late and signal.at < now - self.retention:
            self.late += 1
            return None
        group = self.groups.pop(key, None)
        if group is None:
            self._forget(now)
            group = [now, None, self.fresh()]
        group[0] = now
        self.groups[key] = group
        fired = group[1]
        muted = fired is not None and abs(signal.at - fired) < self._mute
        firing = self.step(group[2], which, signal, now, quiet=muted)
        if firing is None or muted:
            return None
        group[1] = signal.at
        firing.key = key
        return firing

    def _forget(self, now: float) -> None:
        groups = self.groups
        for _ in range(2):  # more leave than come
            oldest = next(iter(groups), None)
            if oldest is None or groups[oldest][0] >= now - self.retention:
                break
            del groups[oldest]
        if len(groups) >= self.max_groups:
            candidates = list(islice(groups, 8))
            del groups[min(candidates, key=lambda key: self.held(groups[key][2]))]
            self.evicted += 1

    @property
    @abstractmethod
    def max_cells(self) -> int:
        """How many entries a group holds at most: `max_groups * max_cells` bounds the memory."""

    @abstractmethod
    def fresh(self) -> Any:
        """The state of a new group."""

    @abstractmethod
    def held(self, state: Any) -> int:
        """How many entries a group holds."""

    @abstractmethod
    def step(self, state: Any, which: int, signal: Signal, now: float, *, quiet: bool) -> Signal | None:
        """Take the signal in; what it completes. `quiet`: nothing will be made of it."""

    def snapshot(self) -> list[Any]:
        return [[list(key), group] for key, group in self.groups.items()]

    def restore(self, content: list[Any]) -> None:
        self.groups = {tuple(key): group for key, group in content}
