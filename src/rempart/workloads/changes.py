"""Tell waiting streams that something changed: entries, bundle or authorities."""

from __future__ import annotations

import asyncio
import contextlib


class Changes:
    """A counter that can be waited on; a change between reading `version` and waiting is not missed. One event loop."""

    def __init__(self) -> None:
        self.version = 0
        self._event = asyncio.Event()

    def announce(self) -> None:
        self.version += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seen: int, timeout_s: float) -> None:
        """Return when `version` is no longer `seen`, or after `timeout_s`."""
        if self.version != seen:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), max(timeout_s, 0.0))
