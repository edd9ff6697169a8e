"""What every store of consents must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql_consents import SCHEMA, SqlConsents
from rempart.people.authorize.model import Consent
from rempart.people.authorize.ports import ConsentStore

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[ConsentStore], Coroutine[Any, Any, None]]
CONSENT = Consent(account_id="usr_a", client_id="app", client_name="The app", scopes=("openid",), granted_at=17.5)


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(SqlConsents(database))

        asyncio.run(body())

    return runner


def test_a_consent_is_replaced_listed_and_deleted(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: ConsentStore) -> None:
        assert await store.get("usr_a", "app") is None
        await store.put(CONSENT)
        wider = replace(CONSENT, scopes=("openid", "email"), client_name="Renamed", granted_at=18.0)
        await store.put(wider)
        other = replace(CONSENT, client_id="another")
        await store.put(other)
        await store.put(replace(CONSENT, account_id="usr_b"))
        assert await store.get("usr_a", "app") == wider
        assert list(await store.of_account("usr_a")) == [other, wider]
        assert await store.delete("usr_a", "app")
        assert not await store.delete("usr_a", "app")
        assert list(await store.of_account("usr_a")) == [other]

    run(scenario)
