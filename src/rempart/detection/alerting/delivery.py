"""Notices on their way through one channel, independent of all others: what one doesn't take waits, the rest go on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from rempart.kernel.errors import RempartError
from rempart.kernel.event import Severity

from .model import Notice, at_least
from .ports import Channel

MAX_WAITING = 500
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
WITHIN = 60.0

_log = logging.getLogger("rempart.notifier")

Changed = Callable[[], None]
Tell = Callable[[str, str], Awaitable[None]]


class Delivery:
    """`waiting` belongs to the saved state: `changed` saves it. `tell(channel, why)`: `why` is empty when it is back.

    At least once: a notice leaves `waiting` after it was taken. When too many wait, the oldest give way and `lost` says
    how many: their incidents are still there to be listed.
    """

    def __init__(
        self, name: str, channel: Channel, least: Severity, waiting: list[Notice], changed: Changed, tell: Tell
    ) -> None:
        self.name, self.least, self.waiting = name, least, waiting
        self.failing = ""
        self.sent = self.failures = self.lost = 0
        self._channel, self._changed, self._tell = channel, changed, tell
        self._more = asyncio.Event()
        self._pause = FIRST_PAUSE

    def put(self, notice: Notice) -> None:
        if notice.kind != "test" and not at_least(notice.severity, self.least):
            return
        if len(self.waiting) >= MAX_WAITING:
            self.waiting.pop(0)
            self.lost += 1
        self.waiting.append(notice)
        self._more.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                while not self.waiting:
                    self._more.clear()
                    await self._more.wait()
                await self._send(self.waiting[0])
        finally:
            await self._channel.close()

    async def _send(self, notice: Notice) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                await self._channel.send(notice)
        except Exception as error:  # whatever a receiver answers, the other channels go on
            why = error.reason if isinstance(error, RempartError) else f"no answer within {WITHIN:g} s"
            if not isinstance(error, RempartError | OSError):  # a TimeoutError is one
                _log.exception("the channel %s failed", self.name)
                why = f"{type(error).__name__} at its answer"
            self.failures += 1
            first, self.failing = not self.failing, why[:300]
            if first:
                await self._tell(self.name, self.failing)
            pause = self._pause * random.uniform(0.75, 1.0)  # nosec B311 - spreads the attempts, nothing more
            self._pause = min(LONGEST_PAUSE, self._pause * 2)
            await asyncio.sleep(pause)
            return
        if self.waiting and self.waiting[0].id == notice.id:  # else it gave way meanwhile
            self.waiting.pop(0)
        self.sent += 1
        self._pause = FIRST_PAUSE
        self._changed()
        if self.failing:
            self.failing = ""
            await self._tell(self.name, "")
