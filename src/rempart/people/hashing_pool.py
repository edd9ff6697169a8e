"""Password hashing in a bounded pool: a flood of logins waits for its turn, everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rempart.crypto.passwords import Argon2id
from rempart.kernel.errors import Throttled
from rempart.telemetry.spans import step

T = TypeVar("T")
_LOOK = 0.1  # seconds between two looks whether somebody is late
CALM = 8  # strangers in line for each worker; more is a flood
LATE = 1.0  # seconds without a word from `Aside`, which has work
REST = 4  # times as long as a thread helped, it doesn't
PATIENCE = 15.0  # seconds that a stranger stays in line


class Aside(Protocol):
    """Verifies on processor time that nobody else wants; for one event loop."""

    @property
    def width(self) -> int:
        """How many at once."""

    @property
    def ready(self) -> bool: ...

    def start(self, then: Callable[[], None]) -> None:
        """Begin to get ready, unless it has, and call `then` once it is; to be asked again after it was lost."""

    async def verify(self, text: str, encoded: str) -> bool | None:
        """None: it was lost, verify elsewhere."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    aside: tuple[str, str] | None
    since: float  # monotonic


class HashingPool:
    """`workers` threads; at most `waiting` jobs in line, and as many again for those who are `known`.

    The known (a device or a network that the account logged in from before) are served first, so strangers can't keep
    the owner of an account out by keeping the pool busy. Once more than `calm` strangers wait it is a flood: `aside`
    verifies for them from then on, and the threads, which the kernel runs beside requests, are there for the known;
    while it gets ready all of them but one go on.
    Where the machine has no time left over, so that nothing came from there for `LATE` seconds, a thread helps, a fifth
    of the time.
    """

    def __init__(
        self, workers: int, waiting: int | None = None, aside: Aside | None = None, calm: int | None = None
    ) -> None:
        self._waiting = 64 * workers if waiting is None else waiting
        self._calm = CALM * workers if calm is None else calm
        self._known: deque[_Waiting] = deque()
        self._strangers: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aside = aside
        self._beside, self._tasks = 0, set[asyncio.Task[None]]()
        self._strangers_at_most, self._with_strangers = max(1, workers - 1), 0
        self._helping, self._help_from, self._late_from = False, 0.0, 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"argon2:{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        return len(self._known) + len(self._strangers)

    async def verify(self, hasher: Argon2id, password: str, encoded: str, *, known: bool = False) -> bool:
        """As `hasher.verify`; raises as `run`."""
        aside = hasher.without_pepper(password, encoded)
        if aside is None:  # nothing to compute, whoever's hash it is
            return False
        return await self.run(lambda: hasher.verify(password, encoded), known=known, aside=aside)

    async def run(self, job: Callable[[], T], *, known: bool = False, aside: tuple[str, str] | None = None) -> T:
        """What `job` returns; raises Throttled `login_busy` at once when the line is full, and to a stranger who was in
        it for long. `aside`: what to ask the process aside for the same answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        line = self._known if known else self._strangers
        now = time.monotonic()
        with self._changed:
            while self._strangers and self._strangers[0].since < now - PATIENCE:
                late = self._strangers.popleft()
                late.loop.call_soon_threadsafe(_deliver, late.future, None, _busy())
            if self._closed or len(line) >= self._waiting:
                raise _busy()
            line.append(_Waiting(job, future, loop, aside, now))
            if known or not self._elsewhere():  # else it would wake up for nothing, hundreds of times a second
                self._changed.notify()
        self._feed()
        with step("hash"):
            return await future

    def close(self) -> None:
        """Finish what is in line; blocks for that long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)
        if self._aside is not None:
            self._aside.close()

    def flooded(self) -> bool:
        """Whether more strangers wait than a busy morning brings."""
        return not self._closed and len(self._strangers) > self._calm

    def _elsewhere(self) -> bool:
        """Whether the next stranger is not a thread's business."""
        ready = self._aside is not None and self._aside.ready
        return ready and self.flooded() and self._strangers[0].aside is not None

    def _feed(self) -> None:
        """Give the process aside what it can take; on the event loop."""
        aside = self._aside
        if aside is None or not self.flooded():
            return
        aside.start(self._feed)
        while aside.ready and self._beside < aside.width:
            with self._changed:
                if not self.flooded() or self._strangers[0].aside is None:
                    return
                waiting = self._strangers.popleft()
                self._changed.notify_all()  # when it was the last beyond the calm
            if not self._beside:
                self._late_from = time.monotonic() + LATE
            self._beside += 1
            task = asyncio.create_task(self._verify_aside(aside, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _verify_aside(self, aside: Aside, waiting: _Waiting) -> None:
        assert waiting.aside is not None  # nosec B101 - what `_feed` asked
        try:
            outcome = await aside.verify(*waiting.aside)
            self._late_from = time.monotonic() + LATE
            if outcome is not None:
                _deliver(waiting.future, outcome, None)
            elif self._closed:
                _deliver(waiting.future, None, _busy())
            else:
                with self._changed:
                    self._strangers.appendleft(waiting)
                    self._changed.notify_all()
        finally:
            self._beside -= 1
            self._feed()

    def _next(self) -> tuple[_Waiting, bool, bool] | None:
        """What a thread is to do now, whether for a stranger, and whether as the one that helps; with the lock."""
        if self._known:
            return self._known.popleft(), False, False
        if not self._strangers:
            return None
        if not self._elsewhere():
            flood = self._aside is not None and self.flooded()
            if flood and self._with_strangers >= self._strangers_at_most:
                return None
            self._with_strangers += 1
            return self._strangers.popleft(), True, False
        now = time.monotonic()
        if self._helping or now < self._help_from or now < self._late_from:
            return None
        self._helping = True
        self._with_strangers += 1
        return self._strangers.popleft(), True, True

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # a preference: the event loop goes first where both want the processor
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        while True:
            with self._changed:
                while (found := self._next()) is None:
                    if self._closed:
                        return
                    self._changed.wait(_LOOK if self._strangers else None)
            waiting, stranger, helps = found
            began = time.monotonic()
            try:
                outcome, error = None if waiting.future.cancelled() else waiting.job(), None
            except Exception as caught:
                outcome, error = None, caught
            if stranger:
                with self._changed:
                    self._with_strangers -= 1
            if helps:
                now = time.monotonic()
                self._help_from, self._helping = now + REST * (now - began), False
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                waiting.loop.call_soon_threadsafe(_deliver, waiting.future, outcome, error)


def _busy() -> Throttled:
    return Throttled("login_busy", "too many people are logging in at once", "wait a moment", retry_after=2)


def _deliver(future: asyncio.Future[Any], outcome: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
