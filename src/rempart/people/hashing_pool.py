"""Password hashing in a bounded pool: a flood of logins waits for its turn, everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from rempart.kernel.errors import Throttled

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class HashingPool:
    """`workers` threads; at most `waiting` jobs in line, and as many again for those who are `known`.

    The known (a device or a network that the account logged in from before) are served first, so strangers can't keep
    the owner of an account out by keeping the pool busy.
    """

    def __init__(self, workers: int, waiting: int | None = None) -> None:
        self._waiting = 64 * workers if waiting is None else waiting
        self._known: deque[_Job] = deque()
        self._strangers: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"argon2:{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        return len(self._known) + len(self._strangers)

    async def run(self, job: Callable[[], T], *, known: bool = False) -> T:
        """What `job` returns; raises Throttled `login_busy` at once when the line is full."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        line = self._known if known else self._strangers
        with self._changed:
            if self._closed or len(line) >= self._waiting:
                raise Throttled("login_busy", "too many people are logging in at once", "wait a moment", retry_after=2)
            line.append((job, future, loop))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """Finish what is in line; blocks for that long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # a preference: the event loop goes first where both want the processor
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        while True:
            with self._changed:
                while not (self._known or self._strangers):
                    if self._closed:
                        return
                    self._changed.wait()
                job, future, loop = (self._known or self._strangers).popleft()
            if future.cancelled():
                continue
            try:
                outcome, error = job(), None
            except Exception as caught:
                outcome, error = None, caught
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(_deliver, future, outcome, error)


def _deliver(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
