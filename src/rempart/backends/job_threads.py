"""Work that blocks, in threads of its own: each takes what waits in batches and wakes its event loop once for all.

Handing over one by one would cost more than the work: each time a thread waits for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rempart.kernel.errors import Unavailable

T = TypeVar("T")
BATCH = 64
_WAITING = 4096
Job = tuple[Callable[[Any], Any], "asyncio.Future[Any]"]
Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


class JobThreads:
    """`settle` answers a batch of jobs; it runs in one of `count` threads and must not raise. `end` ends each."""

    def __init__(
        self, name: str, count: int, settle: Callable[[list[Job]], list[Outcome]], end: Callable[[], None]
    ) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._settle, self._end, self._closed = settle, end, False
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[Any], T]) -> T:
        """What `work` gives; raises what it raises, or Unavailable `store_unavailable`."""
        if self._closed or self._jobs.qsize() >= _WAITING:
            raise Unavailable("store_unavailable", "the store is closed or has too much to do", "try again later")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, future))
        return await future

    def close(self) -> None:
        """Finish what was asked, then end; blocks for that long."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
            for thread in self._threads:
                thread.join(timeout=10)

    def _work(self) -> None:
        stop = False
        while not stop:
            batch: list[Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            stop = job is None
            if batch:
                _answer(self._settle(batch))
        self._end()


def _answer(outcomes: list[Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].get_loop(), []).append(outcome)
    for loop, mine in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, mine)


def _deliver(outcomes: list[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
