"""What every store of agents must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql_agents import SCHEMA, SqlAgents
from rempart.kernel.errors import Denied
from rempart.workloads.agents.model import Agent, JoinToken
from rempart.workloads.ports import AgentStore

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[AgentStore], Coroutine[Any, Any, None]]
ONE = "spiffe://bank.example/rempart/agent/join_token/one"
TWO = "spiffe://bank.example/rempart/agent/x509pop/two"


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(SqlAgents(database))

        asyncio.run(body())

    return runner


def agent(spiffe_id: str = ONE, **more: Any) -> Agent:
    return Agent(
        **{
            "spiffe_id": spiffe_id,
            "method": "join_token",
            "facts": ("a:b c", "d:é"),
            "serial": "1a",
            "next_serial": "2b",
            "old_serial": "0",
            "old_until": 3.5,
            "expires_at": 100.25,
            "joined_at": 50.5,
            "rejoins": True,
            **more,
        }
    )


async def put(store: AgentStore, one: Agent) -> None:
    await store.change(one.spiffe_id, lambda _: one)


def test_an_agent_comes_back_as_it_was_put(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        assert await store.find(ONE) is None
        assert await store.agents() == []
        await put(store, agent(TWO, facts=(), rejoins=False))
        await put(store, agent())
        assert await store.find(ONE) == agent()
        assert await store.agents() == [agent(), agent(TWO, facts=(), rejoins=False)]

    run(scenario)


def test_a_change_sees_what_is_there_and_may_forget_it(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        seen: list[Agent | None] = []

        def ban(before: Agent | None) -> Agent | None:
            seen.append(before)
            return before and replace(before, banned=True)

        assert await store.change(ONE, ban) is None
        await put(store, agent())
        assert await store.change(ONE, ban) == agent(banned=True)
        assert (seen[0], seen[-1]) == (None, agent())
        assert await store.change(ONE, lambda _: None) is None
        assert await store.find(ONE) is None

    run(scenario)


def test_a_change_that_refuses_changes_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        await put(store, agent())

        def refuse(before: Agent | None) -> Agent | None:
            raise Denied("agent_banned", "no")

        with pytest.raises(Denied):
            await store.change(ONE, refuse)
        assert await store.find(ONE) == agent()

    run(scenario)


def test_changes_at_the_same_time_are_one_after_the_other(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        await put(store, agent(serial="0"))

        def count(before: Agent | None) -> Agent | None:
            return before and replace(before, serial=str(int(before.serial) + 1))

        await asyncio.gather(*(store.change(ONE, count) for _ in range(20)))
        found = await store.find(ONE)
        assert found is not None
        assert found.serial == "20"

    run(scenario)


def test_a_token_is_taken_once_whoever_races(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        token = JoinToken(digest="aa" * 32, spiffe_id=ONE, expires_at=12.5)
        await store.put_token(token)
        assert await store.take_token("bb" * 32) is None
        taken = await asyncio.gather(*(store.take_token(token.digest) for _ in range(20)))
        assert [one for one in taken if one is not None] == [token]

    run(scenario)


def test_the_tokens_of_one_agent_are_made_void(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        for digest, whose in (("aa", ONE), ("bb", ONE), ("cc", TWO)):
            await store.put_token(JoinToken(digest=digest, spiffe_id=whose, expires_at=12.5))
        assert await store.void_tokens(ONE) == 2
        assert await store.void_tokens(ONE) == 0
        assert [await store.take_token(digest) is not None for digest in ("aa", "bb", "cc")] == [False, False, True]

    run(scenario)


def test_what_expired_is_swept_and_bans_stay(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: AgentStore) -> None:
        for digest, expires_at in (("aa", 10.0), ("bb", 30.0)):
            await store.put_token(JoinToken(digest=digest, spiffe_id=ONE, expires_at=expires_at))
        await put(store, agent(expires_at=10.0))
        await put(store, agent(TWO, expires_at=10.0, banned=True))
        await store.sweep(20.0)
        assert await store.agents() == [agent(TWO, expires_at=10.0, banned=True)]
        assert await store.take_token("aa") is None
        assert await store.take_token("bb") is not None

    run(scenario)
