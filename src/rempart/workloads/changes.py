"""Tell waiting streams that something changed: entries, bundle or authorities."""

from __future__ import annotations

import asyncio


class Changes:
    """A counter that can be waited on; a change between reading `version` and waiting is not missed. One event loop."""

    def __init__(self) -> None:
        self.version = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def announce(self) -> None:
        self.version += 1
        for waiter in self._waiting:
            _wake(waiter)

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
