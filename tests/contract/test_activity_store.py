"""What every store of recent activity must do; run on each database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends import sql_accounts, sql_activity
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_activity import SqlActivity
from rempart.kernel.event import Event, EventType
from rempart.people.model import GONE, Account, Credentials
from rempart.people.pages.model import Happening

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[SqlActivity, SqlAccounts], Coroutine[Any, Any, None]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            schema = (*sql_accounts.SCHEMA, *sql_activity.SCHEMA)
            async with fresh_database(request, request.param, schema) as database:
                await scenario(SqlActivity(database), SqlAccounts(database))

        asyncio.run(body())

    return runner


def login(at: float, *, success: bool = True) -> Happening:
    return Happening(what="people.login", at=at, success=success, network="203.0.113.7")


def test_lines_come_back_newest_first_each_to_its_account(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlActivity, accounts: SqlAccounts) -> None:
        await store.add([("usr_a", login(1)), ("usr_b", login(2)), ("usr_a", login(3, success=False))], keep=10)
        assert await store.of_account("usr_a") == [login(3, success=False), login(1)]
        assert await store.of_account("usr_b") == [login(2)]
        assert await store.of_account("usr_c") == []

    run(scenario)


def test_failures_push_out_failures_and_no_success(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlActivity, accounts: SqlAccounts) -> None:
        await store.add([("usr_a", login(1)), ("usr_a", login(2))], keep=5)
        await store.add([("usr_a", login(10 + n, success=False)) for n in range(50)], keep=5)
        lines = await store.of_account("usr_a")
        assert [line.at for line in lines] == [59, 58, 57, 56, 55, 2, 1]

    run(scenario)


def test_what_is_old_and_what_was_erased_people_is_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlActivity, accounts: SqlAccounts) -> None:
        ann = Account(
            id="usr_ann", email="ann@bank.example", name="Ann", role="user", payment_limit=None, disabled=False,
            second_factor=False, version=1, epoch=1, created_at=1.0, updated_at=1.0,
        )  # fmt: skip

        def told() -> Event:
            return Event(type=EventType.ACCOUNT_CHANGED, at=1.0, success=True)

        await accounts.add(ann, Credentials("$hash"), told())
        await accounts.add(replace(ann, id="usr_bob", email="bob@bank.example"), Credentials("$hash"), told())
        await store.add([(who, login(at)) for who in ("usr_ann", "usr_bob") for at in (1, 9)], keep=5)
        await accounts.replace(
            replace(ann, email=f"usr_ann@{GONE}", disabled=True, version=2),
            told(),
        )
        await store.sweep(5)
        assert await store.of_account("usr_ann") == []
        assert await store.of_account("usr_bob") == [login(9)]

    run(scenario)
