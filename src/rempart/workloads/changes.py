"""Tell waiting streams that something changed: entries, bundle or authorities."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

from .model import Entry, Selector

KEPT = 64


class Changes:
    """A counter that can be waited on; a change between reading `version` and waiting is not missed. One event loop."""

    def __init__(self) -> None:
        self.version = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._recent: deque[tuple[frozenset[Selector], ...] | None] = deque(maxlen=KEPT)

    def announce(self, entries: Sequence[Entry] | None = None) -> None:
        """`entries`: those that are new, different or gone, where nothing else changed."""
        self.version += 1
        self._recent.append(None if entries is None else tuple(entry.selectors for entry in entries))
        for waiter in self._waiting:
            _wake(waiter)

    def concerns(self, seen: int, facts: frozenset[Selector], looked_for: Collection[tuple[str, str]]) -> bool:
        """May anything since version `seen` matter to whom these facts were found out of? `looked_for`: (type, kind) of
        selectors that would be among the facts if they were true. So one new entry doesn't make a thousand streams look
        again."""
        count = self.version - seen
        if count > len(self._recent):
            return True
        for number in range(len(self._recent) - count, len(self._recent)):
            changed = self._recent[number]
            if changed is None or any(_may_match(selectors, facts, looked_for) for selectors in changed):
                return True
        return False

    async def wait(self, seen: int, timeout_s: float) -> None:
        """Return when `version` is no longer `seen`, or after `timeout_s`."""
        if self.version != seen:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()  # no task and no lock: every stream waits here nearly always
        timer = loop.call_later(max(timeout_s, 0.0), _wake, waiter)
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _may_match(
    selectors: frozenset[Selector], facts: frozenset[Selector], looked_for: Collection[tuple[str, str]]
) -> bool:
    return all(one in facts or (one.type, one.kind) not in looked_for for one in selectors)
