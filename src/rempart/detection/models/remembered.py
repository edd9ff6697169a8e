"""What is kept of each key, for a bounded number of keys: the one that was left alone longest goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Remembered(Generic[V]):
    """`fresh` makes the state of a new key. Not thread-safe; a snapshot keeps the order."""

    def __init__(self, most: int, fresh: Callable[[], V]) -> None:
        self._most, self._fresh = most, fresh
        self._kept: dict[str, V] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def of(self, key: str) -> V:
        """The key's state, which is now the last to go."""
        found = self._kept.pop(key, None)
        if found is None:
            found = self._fresh()
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
                self.evicted += 1
        self._kept[key] = found
        return found

    def peek(self, key: str) -> V | None:
        return self._kept.get(key)

    def pop(self, key: str) -> V | None:
        return self._kept.pop(key, None)

    def snapshot(self) -> Any:
        return list(self._kept.items())

    def restore(self, content: Any) -> None:
        self._kept = {str(key): value for key, value in content}


def see(seen: dict[str, float], value: str, at: float, most: int) -> float | None:
    """When `value` was first seen, None for a new one; it is remembered, among at most `most`."""
    first = seen.get(value)
    if first is None:
        if len(seen) >= most:
            del seen[next(iter(seen))]
        seen[value] = at
    elif at < first:
        seen[value] = at
    return first


def newness(first_seen: float | None, at: float, *, first: bool) -> float:
    """1 when new, a half after a day, 0.2 after four: the second time is still unusual. `first`: everything is new the
    first time that somebody is seen at all, which says nothing."""
    if first:
        return 0.0
    return 1.0 if first_seen is None else 1 / (1 + max(0.0, at - first_seen) / 86_400)
