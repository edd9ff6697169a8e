"""Who searches when, so that what one principal asks for doesn't slow the searches of others.

AT_ONCE searches run beside each other, of each principal one. Who must wait takes turns: the principal that was served
last is the last in line, however many searches it has there. While another waits, a search that takes long is cut off
(`crowded`, see `ports.SearchIndex.find`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rempart.kernel.errors import Throttled, Unavailable

AT_ONCE = 2
WAITING = 4  # searches of one principal, besides the one that runs
_PRINCIPALS = 64  # that wait
_PATIENCE = 4.0  # seconds in line


class SearchTurns:
    """Used by tasks of one loop; `crowded` is asked in other threads."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order in which they are served next

    @asynccontextmanager
    async def turn(self, principal: str) -> AsyncIterator[Callable[[], bool]]:
        """Wait for the principal's turn, give it back at the end; yields what says whether others wait.

        Raises Throttled `too_many_searches` and Unavailable `search_busy`.
        """
        await self._begin(principal)
        try:
            yield lambda: len(self._waiting) > (principal in self._waiting)
        finally:
            self._end(principal)

    async def _begin(self, principal: str) -> None:
        if principal not in self._running and len(self._running) < AT_ONCE:
            self._running.add(principal)
            return
        line = self._waiting.get(principal)
        if line is not None and len(line) >= WAITING:
            raise Throttled(
                "too_many_searches",
                f"{WAITING + 1} searches of yours are not answered yet",
                "wait for their answers, then ask again",
                retry_after=1,
            )
        if line is None:
            if len(self._waiting) >= _PRINCIPALS:
                raise _busy()
            line = self._waiting[principal] = deque()
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(mine)
        try:
            async with asyncio.timeout(_PATIENCE):
                await mine
        except TimeoutError:
            self._give_up(principal, mine)
            raise _busy() from None
        except BaseException:
            self._give_up(principal, mine)
            raise

    def _give_up(self, principal: str, mine: asyncio.Future[None]) -> None:
        if mine.done() and not mine.cancelled():  # its turn came at the same moment
            self._end(principal)
            return
        line = self._waiting.get(principal)
        if line is not None and mine in line:
            line.remove(mine)
            if not line:
                del self._waiting[principal]

    def _end(self, principal: str) -> None:
        self._running.discard(principal)
        if (line := self._waiting.pop(principal, None)) is not None:
            self._waiting[principal] = line  # behind everybody else
        while len(self._running) < AT_ONCE:
            following = next((name for name in self._waiting if name not in self._running), None)
            if following is None:
                return
            line = self._waiting.pop(following)
            first = line.popleft()
            if line:
                self._waiting[following] = line  # behind everybody else
            if not first.done():
                self._running.add(following)
                first.set_result(None)


def _busy() -> Unavailable:
    return Unavailable("search_busy", "the searches that came first take too long", "ask again in a moment")
