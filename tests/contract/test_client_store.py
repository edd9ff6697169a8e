"""What every store of OAuth clients must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql_clients import SCHEMA, SqlClients
from rempart.kernel.errors import Conflict
from rempart.people.oauth.model import Client, Grant, Method
from rempart.people.oauth.ports import ClientStore

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[ClientStore], Coroutine[Any, Any, None]]
CLIENT = Client(
    id="payment",
    name="Payment – paiement",
    method=Method.PRIVATE_KEY_JWT,
    secret_hash=bytes(range(32)),
    jwks=({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "kid": "k"},),
    spiffe_id="spiffe://bank.example/payment",
    redirect_uris=("https://app.example/cb?a=%20",),
    grants=(Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE),
    scopes=("read", "write"),
    audiences=("https://api.example",),
    access_ttl=60,
    consent=True,
    created_at=17.5,
)


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(SqlClients(database))

        asyncio.run(body())

    return runner


def named(client_id: str, **changes: Any) -> Client:
    return msgspec.structs.replace(CLIENT, id=client_id, **changes)


def test_a_client_is_replaced_as_it_was_seen(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ClientStore) -> None:
        await store.add(CLIENT)
        new = named("payment", name="Another", grants=(Grant.PASSWORD,), refresh_ttl=60)
        assert await store.replace(CLIENT, new)
        assert await store.get("payment") == new
        assert await store.any_with(Grant.PASSWORD)
        assert not await store.replace(CLIENT, named("payment", name="Late"))
        assert not await store.replace(named("nobody"), named("nobody", name="x"))
        assert await store.get("payment") == new

    run(scenario)


def test_a_client_is_read_as_it_was_written_and_an_id_is_taken_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ClientStore) -> None:
        assert await store.get("payment") is None
        await store.add(CLIENT)
        assert await store.get("payment") == CLIENT
        with pytest.raises(Conflict) as refusal:
            await store.add(named("payment", name="Another"))
        assert refusal.value.code == "client_exists"
        assert await store.get("payment") == CLIENT
        assert await store.get("PAYMENT") is None
        assert await store.delete("payment", 7.0)
        assert not await store.delete("payment", 7.0)
        assert await store.get("payment") is None

    run(scenario)


@pytest.mark.parametrize(
    ("wanted", "kept"), [(100.0, 102.0), (100.9, 102.0), (101.999, 102.0), (102.0, 102.0), (200.5, 200.5)]
)
def test_a_later_client_of_a_deleted_ones_id_begins_after_all_that_the_other_could_hold(
    run: Callable[[Scenario], None], wanted: float, kept: float
) -> None:
    async def scenario(store: ClientStore) -> None:
        assert (await store.add(named("shop", created_at=99.5))).created_at == 99.5
        assert await store.delete("shop", 100.7)
        assert (await store.add(named("shop", created_at=wanted))).created_at == kept
        assert await store.get("shop") == named("shop", created_at=kept)
        assert (await store.add(named("other", created_at=100.7))).created_at == 100.7

    run(scenario)


def test_a_workload_is_one_client_or_none(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ClientStore) -> None:
        await store.add(named("none", spiffe_id=""))
        await store.add(named("none2", spiffe_id=""))
        await store.add(CLIENT)
        assert await store.by_spiffe_id(CLIENT.spiffe_id) == CLIENT
        assert await store.by_spiffe_id("") is None
        assert await store.by_spiffe_id("spiffe://bank.example/other") is None
        await store.add(named("second"))
        assert await store.by_spiffe_id(CLIENT.spiffe_id) is None  # nobody can tell which

    run(scenario)


def test_clients_are_listed_by_id_and_asked_for_by_grant(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ClientStore) -> None:
        for client_id in ("c", "a", "b"):
            await store.add(named(client_id))
        assert [client.id for client in await store.page("", 2)] == ["a", "b"]
        assert [client.id for client in await store.page("b", 2)] == ["c"]
        assert await store.any_with(Grant.TOKEN_EXCHANGE)
        assert not await store.any_with(Grant.PASSWORD)
        assert not await store.any_with("client")  # whole names only
        await store.add(named("d", grants=(Grant.PASSWORD,)))
        assert await store.any_with(Grant.PASSWORD)

    run(scenario)
