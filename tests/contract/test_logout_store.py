"""What every store of logouts to tell must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql_logouts import SCHEMA, SqlLogouts
from rempart.people.authorize.ports import LogoutStore

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[LogoutStore], Coroutine[Any, Any, None]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(SqlLogouts(database))

        asyncio.run(body())

    return runner


def test_each_client_of_a_session_is_due_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore) -> None:
        for client in ("one", "two", "one"):
            await store.joined("ses_1", client, "usr_a", 1000)
        await store.joined("ses_2", "one", "usr_b", 1000)
        assert not await store.due(100, 60, 10)
        assert await store.ended("ses_1", 100) == 2
        assert await store.ended("ses_1", 100) == 0
        due = sorted(await store.due(100, 60, 10), key=lambda delivery: delivery.client_id)
        told = [(d.client_id, d.session_id, d.account_id, d.attempts) for d in due]
        assert told == [("one", "ses_1", "usr_a", 0), ("two", "ses_1", "usr_a", 0)]
        assert not await store.due(159, 60, 10)  # they are on lease
        await store.done(due[0].id)
        await store.again(due[1].id, 500)
        assert not await store.due(499, 60, 10)
        assert [(d.client_id, d.attempts) for d in await store.due(500, 60, 10)] == [("two", 1)]
        assert [(d.client_id, d.attempts) for d in await store.due(560, 60, 10)] == [("two", 2)]  # the lease ran out

    run(scenario)


def test_of_many_senders_one_gets_each_delivery(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore) -> None:
        for n in range(6):
            await store.joined("ses_1", f"client{n}", "usr_a", 1000)
        await store.ended("ses_1", 100)
        batches = await asyncio.gather(*(store.due(100, 60, 4) for _ in range(5)))
        ids = [delivery.id for batch in batches for delivery in batch]
        assert len(ids) == len(set(ids)) == 6

    run(scenario)


def test_sessions_that_are_long_over_are_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore) -> None:
        await store.joined("ses_1", "one", "usr_a", 100)
        await store.joined("ses_2", "one", "usr_a", 300)
        assert await store.sweep(200) == 1
        assert await store.ended("ses_1", 200) == 0
        assert await store.ended("ses_2", 200) == 1

    run(scenario)
