"""What every store of revoked client certificates must do; run on each database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql_clients import SCHEMA as CLIENTS
from rempart.backends.sql_clients import SqlClients
from rempart.backends.sql_revocations import SCHEMA, SqlRevocations
from rempart.crypto.client_chain import Link
from rempart.people.oauth.model import Client, Grant, Method
from rempart.people.oauth.revocations import KEPT, KeptList, Seen, TakenAway

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[SqlRevocations, SqlClients], Coroutine[Any, Any, None]]
LEAF, ROOT = bytes(range(32)), bytes(range(32, 64))
PATH = (Link(LEAF, ROOT, 1 << 159), Link(ROOT))
CLIENT = Client(id="partner", name="Partner", method=Method.TLS, grants=(Grant.CLIENT_CREDENTIALS,))


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, (*CLIENTS, *SCHEMA)) as database:
                await scenario(SqlRevocations(database), SqlClients(database))

        asyncio.run(body())

    return runner


def test_what_is_taken_away_ends_the_tokens_of_whom_it_proved(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlRevocations, clients: SqlClients) -> None:
        await clients.add(CLIENT)
        await store.see(Seen("partner", PATH), 100.0)
        await store.see(Seen("partner", PATH), 101.0)
        await store.see(Seen("gone", PATH), 101.0)
        seen: list[Seen] = []
        missed = await store.take(TakenAway(ROOT, "", 101.5), lambda one: bool(seen.append(one)))
        assert (list(missed), await clients.ended_at("partner")) == ([], 0.0)
        assert {one.client_id: one.path for one in seen} == {"partner": PATH, "gone": PATH}
        ended = await store.take(TakenAway(LEAF, "stolen", 102.0), lambda one: one.path[0].digest == LEAF)
        assert list(ended) == ["gone", "partner"]
        assert [await clients.ended_at(one) for one in ("partner", "gone")] == [102.0, 0.0]
        assert [(one.digest, one.note, one.at) for one in await store.taken()] == [
            (ROOT, "", 101.5),
            (LEAF, "stolen", 102.0),
        ]
        assert [await store.drop(LEAF), await store.drop(LEAF)] == [True, False]
        assert [one.digest for one in await store.taken()] == [ROOT]

    run(scenario)


def test_a_list_replaces_its_authoritys_former_one(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlRevocations, clients: SqlClients) -> None:
        await clients.add(CLIENT)
        await store.see(Seen("partner", PATH), 100.0)
        assert await store.der(ROOT) is None
        assert not await store.put(KeptList(ROOT, LEAF, 101.0), b"one", lambda one: False)
        assert list(await store.put(KeptList(ROOT, ROOT, 102.0), b"\x00two", lambda one: True)) == ["partner"]
        assert list(await store.lists()) == [KeptList(ROOT, ROOT, 102.0)]
        assert await store.der(ROOT) == b"\x00two"
        assert await store.drop(ROOT)
        assert not await store.lists()

    run(scenario)


def test_what_nobody_came_with_for_long_is_forgotten(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlRevocations, clients: SqlClients) -> None:
        await clients.add(CLIENT)
        await store.see(Seen("partner", PATH), 100.0)
        await store.see(Seen("partner", PATH[1:]), 101.0 + KEPT)
        found = []
        await store.take(TakenAway(LEAF, "", 102.0 + KEPT), lambda one: bool(found.append(one.path)))
        assert found == [PATH[1:]]

    run(scenario)
