"""What every store of logouts to tell must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends import sql_accounts
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_logouts import SCHEMA, SqlLogouts
from rempart.kernel.event import Event, EventType
from rempart.kernel.principal import Role
from rempart.people.authorize.ports import LogoutStore
from rempart.people.model import Account, Credentials
from rempart.people.ports import AccountStore

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[LogoutStore, AccountStore], Coroutine[Any, Any, None]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, (*sql_accounts.SCHEMA, *SCHEMA)) as database:
                await scenario(SqlLogouts(database), SqlAccounts(database))

        asyncio.run(body())

    return runner


def test_each_client_of_a_session_is_due_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore, accounts: AccountStore) -> None:
        for client in ("one", "two", "one"):
            await store.joined("ses_1", client, "usr_a", 1, 1000)
        await store.joined("ses_2", "one", "usr_b", 1, 1000)
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
    async def scenario(store: LogoutStore, accounts: AccountStore) -> None:
        for n in range(6):
            await store.joined("ses_1", f"client{n}", "usr_a", 1, 1000)
        await store.ended("ses_1", 100)
        batches = await asyncio.gather(*(store.due(100, 60, 4) for _ in range(5)))
        ids = [delivery.id for batch in batches for delivery in batch]
        assert len(ids) == len(set(ids)) == 6

    run(scenario)


def test_sessions_that_are_long_over_are_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore, accounts: AccountStore) -> None:
        await store.joined("ses_1", "one", "usr_a", 1, 100)
        await store.joined("ses_2", "one", "usr_a", 1, 300)
        assert await store.sweep(200) == 1
        assert await store.ended("ses_1", 200) == 0
        assert await store.ended("ses_2", 200) == 1

    run(scenario)


def test_an_account_that_was_disabled_or_changed_ends_its_sessions(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: LogoutStore, accounts: AccountStore) -> None:
        people = {name: account(name) for name in ("ann", "bob", "cid")}
        for name, person in people.items():
            await accounts.add(person, Credentials("x"), event())
            await store.joined(f"ses_{name}", "one", person.id, person.epoch, 1000)
        assert await store.superseded(0, 100) == 0
        await accounts.replace(replace(people["ann"], version=2, epoch=2, updated_at=50.0), event())
        await accounts.replace(replace(people["bob"], version=2, disabled=True, updated_at=50.0), event())
        await accounts.replace(replace(people["cid"], version=2, name="Cid", updated_at=50.0), event())
        assert await store.superseded(51, 100) == 0
        assert await store.superseded(50, 100) == 2
        assert await store.superseded(50, 100) == 0
        assert {delivery.session_id for delivery in await store.due(100, 60, 10)} == {"ses_ann", "ses_bob"}

    run(scenario)


def account(name: str) -> Account:
    return Account(
        id=f"usr_{name}",
        email=f"{name}@bank.example",
        name=name,
        role=Role.USER,
        payment_limit=None,
        disabled=False,
        second_factor=False,
        version=1,
        epoch=1,
        created_at=1.0,
        updated_at=1.0,
    )


def event() -> Event:
    return Event(type=EventType.ACCOUNT_CHANGED, at=1.0, success=True)
