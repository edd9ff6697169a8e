"""What every store of once-records must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server, redis_for, redis_server

from rempart.backends.redis_once import RedisOnce
from rempart.backends.sql_once import SCHEMA, SqlOnce
from rempart.kernel.clock import ManualClock
from rempart.people.ports import OnceStore

__all__ = ["postgres_server", "redis_server"]  # fixtures
Scenario = Callable[[OnceStore, ManualClock], Coroutine[Any, Any, None]]
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            clock = ManualClock()
            if request.param == "redis":
                async with redis_for(request) as server:
                    return await scenario(RedisOnce(server, clock), clock)
            async with fresh_database(request, request.param, SCHEMA) as database:
                return await scenario(SqlOnce(database, clock), clock)

        asyncio.run(body())

    return runner


def test_a_record_is_taken_once_whoever_races(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        assert await store.put("code", KEY, b"\x00value\xff", clock.now() + 60)
        assert await store.peek("code", KEY) == b"\x00value\xff"
        taken = await asyncio.gather(*(store.take("code", KEY) for _ in range(20)))
        assert [value for value in taken if value is not None] == [b"\x00value\xff"]
        assert await store.peek("code", KEY) is None

    run(scenario)


def test_of_many_puts_one_is_first(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        ends = clock.now() + 60
        put = await asyncio.gather(*(store.put("jti", KEY, b"%d" % n, ends) for n in range(20)))
        assert sorted(put) == [False] * 19 + [True]
        assert await store.peek("jti", KEY) == b"%d" % put.index(True)

    run(scenario)


def test_kinds_and_keys_are_apart(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        ends = clock.now() + 60
        for kind in ("code", "link"):
            for key in (KEY, OTHER):
                assert await store.put(kind, key, kind.encode() + key, ends)
        assert await store.take("code", KEY) == b"code" + KEY
        assert await store.peek("link", KEY) == b"link" + KEY
        assert await store.peek("code", OTHER) == b"code" + OTHER

    run(scenario)


def test_an_expired_record_is_as_none(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        assert await store.put("code", KEY, b"old", clock.now() + 60)
        clock.advance(60)
        assert await store.peek("code", KEY) is None
        assert await store.take("code", KEY) is None
        assert not await store.swap("code", KEY, b"old", b"new")
        assert await store.put("code", KEY, b"new", clock.now() + 60)
        assert await store.peek("code", KEY) == b"new"
        assert await store.put("code", OTHER, b"past", clock.now() - 1)
        assert await store.peek("code", OTHER) is None
        clock.advance(120)
        await store.sweep(clock.now())
        assert await store.take("code", KEY) is None

    run(scenario)


def test_a_swap_needs_the_old_value_and_keeps_the_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        assert not await store.swap("device", KEY, b"a", b"b")
        assert await store.put("device", KEY, b"a", clock.now() + 60)
        assert not await store.swap("device", KEY, b"x", b"b")
        swapped = await asyncio.gather(*(store.swap("device", KEY, b"a", b"b%d" % n) for n in range(10)))
        assert sum(swapped) == 1
        assert await store.peek("device", KEY) == b"b%d" % swapped.index(True)
        clock.advance(60)
        assert await store.peek("device", KEY) is None

    run(scenario)


def test_empty_values_are_values(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: OnceStore, clock: ManualClock) -> None:
        assert await store.put("jti", KEY, b"", clock.now() + 60)
        assert not await store.put("jti", KEY, b"", clock.now() + 60)
        assert await store.peek("jti", KEY) == b""
        assert await store.take("jti", KEY) == b""

    run(scenario)
