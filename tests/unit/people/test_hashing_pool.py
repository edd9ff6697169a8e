"""The pool: bounded, fair to the known, and never in the event loop's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from rempart.kernel.errors import Throttled
from rempart.people.hashing_pool import HashingPool


def run(scenario: Callable[[HashingPool, threading.Event], Awaitable[None]], waiting: int = 3) -> None:
    """With one worker that a job holds until `release` is set."""

    async def body() -> None:
        pool, release, started = HashingPool(1, waiting), threading.Event(), threading.Event()

        def hold() -> None:
            started.set()
            release.wait(10)

        held = asyncio.create_task(pool.run(hold))
        await asyncio.to_thread(started.wait, 10)
        try:
            await scenario(pool, release)
        finally:
            release.set()
            await held
            await asyncio.to_thread(pool.close)

    asyncio.run(body())


def test_who_comes_when_the_line_is_full_is_told_at_once() -> None:
    async def scenario(pool: HashingPool, release: threading.Event) -> None:
        waiting = [asyncio.create_task(pool.run(lambda: 1)) for _ in range(3)]
        await asyncio.sleep(0)
        assert pool.depth == 3
        with pytest.raises(Throttled) as refusal:
            await pool.run(lambda: 1)
        assert refusal.value.retry_after > 0
        known = asyncio.create_task(pool.run(lambda: 2, known=True))
        await asyncio.sleep(0)
        release.set()
        assert await asyncio.gather(*waiting, known) == [1, 1, 1, 2]

    run(scenario)


def test_the_known_go_first() -> None:
    async def scenario(pool: HashingPool, release: threading.Event) -> None:
        order: list[str] = []
        jobs = [asyncio.create_task(pool.run(lambda: order.append("stranger"))) for _ in range(2)]
        await asyncio.sleep(0)
        jobs.append(asyncio.create_task(pool.run(lambda: order.append("known"), known=True)))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*jobs)
        assert order == ["known", "stranger", "stranger"]

    run(scenario)


def test_what_a_job_raises_reaches_who_asked_and_the_worker_lives_on() -> None:
    async def scenario(pool: HashingPool, release: threading.Event) -> None:
        release.set()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert await pool.run(lambda: 7) == 7

    run(scenario)


def test_work_nobody_waits_for_is_not_done() -> None:
    async def scenario(pool: HashingPool, release: threading.Event) -> None:
        done: list[int] = []
        gone = asyncio.create_task(pool.run(lambda: done.append(1)))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        release.set()
        await pool.run(lambda: done.append(2))
        assert done == [2]

    run(scenario)


def test_a_closed_pool_takes_nothing_in() -> None:
    async def scenario() -> None:
        pool = HashingPool(2)
        await asyncio.to_thread(pool.close)
        with pytest.raises(Throttled):
            await pool.run(lambda: 1)

    asyncio.run(scenario())
