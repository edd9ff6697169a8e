"""During a flood of strangers the pool's threads are there for the known, and for whom nobody else verifies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.support import eventually

from rempart.crypto.passwords import Argon2id
from rempart.kernel.errors import Throttled
from rempart.people import hashing_pool
from rempart.people.hashing_pool import HashingPool

HASHER = Argon2id(memory=64, passes=1)
RIGHT = HASHER.hash("right")
CALM = 2


class FakeAside:
    """Answers when it is told to."""

    width = 2

    def __init__(self) -> None:
        self.ready, self.starts, self.closed = False, 0, False
        self.asked: list[tuple[str, asyncio.Future[bool | None]]] = []
        self.then: Callable[[], None] = lambda: None

    def start(self, then: Callable[[], None]) -> None:
        self.starts, self.then = self.starts + 1, then

    def get_ready(self) -> None:
        self.ready = True
        self.then()

    async def verify(self, text: str, encoded: str) -> bool | None:
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self.asked.append((text, answer))
        return await answer

    def close(self) -> None:
        self.closed = True


class Flood:
    """A pool whose one worker is held until `release` is set."""

    def __init__(self) -> None:
        self.aside = FakeAside()
        self.pool = HashingPool(1, waiting=8, aside=self.aside, calm=CALM)
        self.release = threading.Event()
        self.tasks: list[asyncio.Task[bool]] = []

    async def hold(self) -> None:
        started = threading.Event()

        def job() -> bool:
            started.set()
            return self.release.wait(10)

        self.tasks.append(asyncio.create_task(self.pool.run(job, known=True)))
        await asyncio.to_thread(started.wait, 10)

    async def strangers(self, count: int, password: str = "wrong") -> list[asyncio.Task[bool]]:
        tasks = [asyncio.create_task(self.pool.verify(HASHER, password, RIGHT)) for _ in range(count)]
        self.tasks += tasks
        await _turns()
        return tasks

    async def known(self) -> bool:
        return await self.pool.verify(HASHER, "right", RIGHT, known=True)


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(scenario: Callable[[Flood], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        flood = Flood()
        await flood.hold()
        try:
            await scenario(flood)
        finally:
            flood.release.set()
            await asyncio.to_thread(flood.pool.close)
            while not all(task.done() for task in flood.tasks):
                for _, answer in flood.aside.asked:
                    if not answer.done():
                        answer.set_result(False)
                await asyncio.sleep(0.01)
            assert flood.aside.closed

    asyncio.run(body())


def test_a_few_strangers_are_no_flood() -> None:
    async def scenario(flood: Flood) -> None:
        waiting = [*await flood.strangers(CALM - 1), *await flood.strangers(1, "right")]
        assert flood.aside.starts == 0
        flood.release.set()
        assert await asyncio.gather(*waiting) == [False, True]

    run(scenario)


def test_in_a_flood_strangers_wait_for_time_left_over_and_the_known_do_not() -> None:
    async def scenario(flood: Flood) -> None:
        waiting = await flood.strangers(CALM + 4)
        assert flood.aside.starts > 0
        assert not flood.aside.asked  # it gets ready
        flood.aside.get_ready()
        await _turns()
        assert len(flood.aside.asked) == flood.aside.width
        flood.release.set()
        assert await flood.known()
        assert not any(task.done() for task in waiting)  # the thread is free, and none of its business
        for turn in range(4):
            await _turns()
            text, answer = flood.aside.asked[turn]
            assert text == "wrong"
            answer.set_result(turn == 0)
        assert await asyncio.gather(*waiting) == [True, False, False, False, *[False] * CALM]

    run(scenario)


def test_before_it_is_ready_the_threads_go_on() -> None:
    async def scenario(flood: Flood) -> None:
        waiting = await flood.strangers(CALM + 4, "right")
        flood.release.set()
        assert await asyncio.gather(*waiting) == [True] * (CALM + 4)

    run(scenario)


def test_while_it_gets_ready_one_thread_waits() -> None:
    async def body() -> None:
        aside, release, begun = FakeAside(), threading.Event(), threading.Semaphore(0)
        pool = HashingPool(2, waiting=8, aside=aside, calm=0)

        def job() -> None:
            begun.release()
            release.wait(10)

        jobs = [asyncio.create_task(pool.run(job)) for _ in range(4)]
        assert await asyncio.to_thread(begun.acquire, timeout=10)
        known = asyncio.create_task(pool.run(job, known=True))
        assert await asyncio.to_thread(begun.acquire, timeout=10)  # the other thread is there for the known
        assert not begun.acquire(blocking=False)
        assert pool.depth == 3
        release.set()
        await asyncio.gather(*jobs, known)
        await asyncio.to_thread(pool.close)

    asyncio.run(body())


def test_what_was_lost_aside_is_verified_by_a_thread() -> None:
    async def scenario(flood: Flood) -> None:
        flood.aside.get_ready()
        waiting = await flood.strangers(CALM + 2, "right")
        assert len(flood.aside.asked) == 2
        flood.aside.ready = False
        for _, answer in flood.aside.asked:
            answer.set_result(None)
        flood.release.set()
        assert await asyncio.gather(*waiting) == [True] * (CALM + 2)

    run(scenario)


def test_where_no_time_is_left_over_a_thread_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(flood: Flood) -> None:
        monkeypatch.setattr(hashing_pool, "LATE", -1.0)
        flood.aside.get_ready()
        waiting = await flood.strangers(CALM + 5, "right")
        flood.release.set()
        assert await asyncio.gather(*waiting[2:]) == [True] * (CALM + 3)
        assert not any(task.done() for task in waiting[:2])  # which are aside

    run(scenario)


def test_who_helps_rests_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(flood: Flood) -> None:
        monkeypatch.setattr(hashing_pool, "LATE", -1.0)
        flood.aside.get_ready()
        waiting = await flood.strangers(CALM + 5, "right")
        monkeypatch.setattr(hashing_pool, "REST", 1e9)
        flood.release.set()
        assert await waiting[2]
        assert await flood.known()
        assert not any(task.done() for task in waiting[3:])

    run(scenario)


def test_who_waits_for_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(flood: Flood) -> None:
        flood.aside.get_ready()
        waiting = await flood.strangers(8)
        monkeypatch.setattr(hashing_pool, "PATIENCE", -1.0)
        after = await flood.strangers(1)
        outcomes = await asyncio.gather(*waiting[2:], return_exceptions=True)
        assert all(isinstance(outcome, Throttled) and outcome.code == "login_busy" for outcome in outcomes)
        assert not after[0].done()

    run(scenario)


def test_what_can_not_be_right_is_answered_without_a_turn() -> None:
    async def scenario(flood: Flood) -> None:
        for password in ("x" * 129, "\ud800"):
            assert not await flood.pool.verify(HASHER, password, RIGHT)

    run(scenario)


def test_a_pool_that_is_closed_leaves_nobody_waiting() -> None:
    async def scenario(flood: Flood) -> None:
        flood.aside.get_ready()
        waiting = await flood.strangers(CALM + 2)
        flood.release.set()
        await asyncio.to_thread(flood.pool.close)
        for _, answer in flood.aside.asked:
            answer.set_result(None)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(outcome, Throttled) for outcome in outcomes] == [True, True, False, False]
        eventually(lambda: flood.aside.closed)

    run(scenario)
