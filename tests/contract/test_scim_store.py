"""What every store of provisioned users, and of grown epochs, must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends import sql_accounts, sql_clients, sql_epochs, sql_families, sql_scim
from rempart.backends.sql import Database
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_clients import SqlClients
from rempart.backends.sql_epochs import SqlEpochs
from rempart.backends.sql_families import SqlFamilies
from rempart.backends.sql_scim import SqlScim
from rempart.kernel.errors import Conflict
from rempart.kernel.event import Event, EventType
from rempart.people.administration.scim.user_document import ScimUser
from rempart.people.model import GONE, Account, Credentials, RefreshFamily
from rempart.people.oauth.model import Client, Method

__all__ = ["postgres_server"]  # a fixture
SCHEMA = (
    *sql_accounts.SCHEMA, *sql_families.SCHEMA, *sql_clients.SCHEMA, *sql_epochs.SCHEMA, *sql_scim.SCHEMA
)  # fmt: skip
ANN = ScimUser(
    account_id="usr_ann",
    user_name="Ann Straße",
    external_id="ext",
    names={"givenName": "Ann"},
    display_name=None,
    marks={"primary": True},
    at=100.0,
)
Scenario = Callable[[Database], Coroutine[Any, Any, None]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(database)

        asyncio.run(body())

    return runner


async def add(database: Database, name: str, **fields: Any) -> Account:
    account = Account(
        id=f"usr_{name}",
        email=f"{name}@bank.example",
        name=name,
        role="user",
        payment_limit=None,
        disabled=False,
        second_factor=False,
        version=1,
        epoch=1,
        created_at=1.0,
        updated_at=1.0,
    )
    account = replace(account, **fields)
    event = Event(type=EventType.ACCOUNT_CREATED, at=1.0, success=True)
    await SqlAccounts(database).add(account, Credentials("h"), event)
    return account


def test_a_user_is_kept_replaced_found_whatever_the_case_and_removed(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        store = SqlScim(database)
        await store.put(ANN)
        await store.put(replace(ANN, external_id=None, at=200.0))
        assert await store.get("usr_ann") == replace(ANN, external_id=None, at=200.0)
        assert await store.by_user_name("ANN STRASSE") == await store.get("usr_ann")
        await store.put(replace(ANN, account_id="usr_bob", user_name="bob"))
        await store.put(replace(ANN, account_id="usr_cyd", user_name="cyd"))
        assert set(await store.between("usr_ann", "usr_bob")) == {"usr_bob"}
        await store.remove("usr_ann")
        assert await store.get("usr_ann") is None
        assert await store.by_user_name("Ann Straße") is None

    run(scenario)


def test_of_many_who_want_a_name_at_once_one_gets_it(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        store = SqlScim(database)
        wanted = [replace(ANN, account_id=f"usr_{number}") for number in range(8)]
        outcomes = await asyncio.gather(*(store.put(user) for user in wanted), return_exceptions=True)
        assert outcomes.count(None) == 1
        assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome is not None)

    run(scenario)


def test_a_name_whose_account_was_never_made_is_free_after_a_minute(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        store = SqlScim(database)
        await store.put(ANN)
        with pytest.raises(Conflict):
            await store.put(replace(ANN, account_id="usr_new", at=ANN.at + 59))
        await store.put(replace(ANN, account_id="usr_new", at=ANN.at + 61))
        await add(database, "new")
        with pytest.raises(Conflict):
            await store.put(replace(ANN, at=ANN.at + 1000))

    run(scenario)


def test_an_erased_account_frees_its_name_and_is_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        store = SqlScim(database)
        await add(database, "ann", email=f"usr_ann@{GONE}", disabled=True)
        await add(database, "bob")
        await store.put(ANN)
        await store.put(replace(ANN, account_id="usr_bob"))
        assert await store.get("usr_ann") is None
        await store.put(replace(ANN, user_name="another"))
        await store.forget_erased()
        assert await store.get("usr_ann") is None
        assert await store.get("usr_bob") is not None

    run(scenario)


def test_members_of_a_role_without_the_erased(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "ann")
        await add(database, "bob", disabled=True)
        await add(database, "cyd", role="finance")
        await add(database, "dan", email=f"usr_dan@{GONE}")
        assert await SqlScim(database).members("user", 10) == [
            ("usr_ann", "ann@bank.example"),
            ("usr_bob", "bob@bank.example"),
        ]
        assert len(await SqlScim(database).members("user", 1)) == 1

    run(scenario)


def test_accounts_that_changed_and_have_an_earlier_epoch(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "ann", epoch=2, updated_at=50.0)
        await add(database, "bob", epoch=3, updated_at=60.0)
        await add(database, "cyd", epoch=1, updated_at=70.0)
        store = SqlEpochs(database)
        assert sorted(await store.changed_since(50.0)) == [("usr_ann", 2, 50.0), ("usr_bob", 3, 60.0)]
        assert list(await store.changed_since(55.0)) == [("usr_bob", 3, 60.0)]

    run(scenario)


def test_deleted_clients_are_remembered_until_they_are_swept(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        clients, store = SqlClients(database), SqlEpochs(database)
        for at in (50.0, 60.0):
            await clients.add(Client(id="app", name="App", method=Method.NONE))
            assert await clients.delete("app", at)
            assert list(await store.deleted_since(50.0)) == [("app", at)]
        assert not await clients.delete("app", 70.0)
        assert list(await store.deleted_since(60.1)) == []
        await store.sweep(60.1)
        assert list(await store.deleted_since(0.0)) == []

    run(scenario)


def test_what_ended_lately_is_found_whatever_it_was(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "ann")
        families, store = SqlFamilies(database), SqlEpochs(database)
        for number in range(3):
            family = RefreshFamily(
                id=f"fam_{number}",
                account_id="usr_ann",
                epoch=1,
                amr=("pwd",),
                scope="session",
                network="203.0.113.7",
                user_agent="curl",
                created_at=10.0,
                last_used_at=10.0,
                expires_at=1000.0,
            )
            await families.open(family, bytes([number]), keep=50)
        await families.revoke("fam_1", "logout", 60.0)
        await store.end("ses_1", "usr_ann", 50.0)
        await store.end("ses_1", "usr_ann", 90.0)  # the first time counts
        await store.end("tok_1", "a-client", 70.0)
        ended = [("usr_ann", "ses_1", 50.0), ("usr_ann", "fam_1", 60.0), ("a-client", "tok_1", 70.0)]
        assert list(await store.ended_since(50.0)) == ended
        assert list(await store.ended_since(50.5)) == ended[1:]
        assert await store.sweep(60.0) == 1
        assert list(await store.ended_since(0.0)) == ended[1:]

    run(scenario)
