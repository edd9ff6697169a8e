"""The entries as one immutable view that finds those of a process without looking at all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from .model import Entry, Selector


class EntryIndex:
    """Each entry is filed under its rarest selector: whoever has all of an entry's selectors has that one, too.

    An entry whose parent's id begins with `agents` is that agent's, and matches nobody here. One whose parent is
    `server` is a node alias: its id stands for all agents that have its selectors, and entries with that id as their
    parent are theirs, and nobody's here.
    """

    def __init__(self, entries: Sequence[Entry], *, agents: str = "", server: str = "") -> None:
        self.entries = tuple(entries)
        self.by_id = {entry.id: entry for entry in self.entries}
        self.of_parent: dict[str, list[Entry]] = {}
        for entry in self.entries:
            self.of_parent.setdefault(entry.parent_id, []).append(entry)
        self.aliases: Sequence[Entry] = self.of_parent.get(server, ()) if server else ()
        elsewhere = {server, *(str(alias.spiffe_id) for alias in self.aliases)} if server else set()
        here = [
            not (agents and entry.parent_id.startswith(agents)) and entry.parent_id not in elsewhere
            for entry in self.entries
        ]
        common = Counter(s for entry, local in zip(self.entries, here, strict=True) if local for s in entry.selectors)
        self._filed: dict[Selector, list[int]] = {}
        for position, entry in enumerate(self.entries):
            if not here[position]:
                continue
            rarest = min(entry.selectors, key=lambda selector: (common[selector], selector))
            self._filed.setdefault(rarest, []).append(position)
        self._ends = sorted(entry.expires_at for entry in self.entries if entry.expires_at is not None)
        self.kinds = frozenset((selector.type, selector.kind) for selector in common)
        """What entries ask for, as (type, kind)."""

    def matching(self, facts: frozenset[Selector], now: float) -> list[Entry]:
        """In the order of `entries`."""
        near = sorted(position for selector in facts for position in self._filed.get(selector, ()))
        return [entry for position in near if (entry := self.entries[position]).matches(facts, now)]

    def identities(self, facts: frozenset[Selector], now: float) -> list[Entry]:
        """Of those that match, several for one id without a hint, or for one hint, the first: hints tell the identities
        of one workload apart (Workload API section 5.2.1)."""
        found: dict[str, Entry] = {}
        for entry in self.matching(facts, now):
            found.setdefault(entry.hint or str(entry.spiffe_id), entry)
        return list(found.values())

    def next_expiry(self, now: float) -> float | None:
        later = bisect_right(self._ends, now)
        return self._ends[later] if later < len(self._ends) else None
