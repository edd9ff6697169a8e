"""What every store of sessions must do; run on each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server, redis_for, redis_server

from rempart.backends.redis_sessions import RedisSessions
from rempart.backends.sql_sessions import SCHEMA, SqlSessions
from rempart.people.sessions.model import Stored
from rempart.people.sessions.ports import SessionStore

__all__ = ["postgres_server", "redis_server"]  # fixtures
Scenario = Callable[[SessionStore], Coroutine[Any, Any, None]]
NOW = 1_700_000_000.25


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            if request.param == "redis":
                async with redis_for(request) as server:
                    return await scenario(RedisSessions(server))
            async with fresh_database(request, request.param, SCHEMA) as database:
                return await scenario(SqlSessions(database))

        asyncio.run(body())

    return runner


def stored(name: str = "one", **fields: Any) -> Stored:
    base = Stored(_hash(name), f"ses_{name}", "usr_ann", NOW, NOW, NOW + 3600, b"\x00sealed\xff" + name.encode())
    return replace(base, **fields)


def _hash(name: str) -> bytes:
    return name.encode().ljust(32, b"\xfe")


def test_a_session_is_found_by_its_token_and_by_its_id(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        assert await store.open(stored(), keep=5) == []
        assert await store.find(_hash("one"), NOW) == stored()
        assert await store.by_id("ses_one", NOW) == stored()
        assert await store.find(_hash("two"), NOW) is None
        assert await store.by_id("ses_two", NOW) is None
        assert await store.of_account("usr_bob", NOW) == []

    run(scenario)


def test_a_session_past_its_end_is_as_none(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored(), keep=5)
        end = NOW + 3600
        assert await store.find(_hash("one"), end - 0.5) is not None
        assert await store.find(_hash("one"), end) is None
        assert await store.by_id("ses_one", end) is None
        assert await store.of_account("usr_ann", end) == []
        await store.sweep(end)
        assert await store.of_account("usr_ann", end) == []

    run(scenario)


def test_a_touch_moves_the_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored(), keep=5)
        assert await store.touch(_hash("one"), NOW + 100, NOW + 9000)
        moved = stored(seen_at=NOW + 100, ends_at=NOW + 9000)
        assert await store.find(_hash("one"), NOW + 8000) == moved
        assert await store.of_account("usr_ann", NOW + 8000) == [moved]
        assert not await store.touch(_hash("two"), NOW, NOW + 1)

    run(scenario)


def test_a_replaced_token_is_dead_and_of_many_replacements_one_wins(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored(), keep=5)
        fresh = [stored(token_hash=_hash(f"new{n}"), sealed=b"%d" % n, seen_at=NOW + 9) for n in range(8)]
        won = await asyncio.gather(*(store.replace(_hash("one"), session) for session in fresh))
        assert sum(won) == 1
        winner = fresh[won.index(True)]
        assert await store.find(_hash("one"), NOW) is None
        assert await store.find(winner.token_hash, NOW) == winner
        assert await store.by_id("ses_one", NOW) == winner
        assert await store.of_account("usr_ann", NOW) == [winner]
        for loser in fresh:
            assert loser is winner or await store.find(loser.token_hash, NOW) is None
        assert not await store.replace(_hash("two"), stored("two"))

    run(scenario)


def test_a_replacement_is_of_the_same_session(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored(), keep=5)
        assert not await store.replace(_hash("one"), stored("two"))
        assert await store.find(_hash("one"), NOW) == stored()

    run(scenario)


def test_of_many_who_end_a_session_one_did(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored(), keep=5)
        await store.open(stored("two"), keep=5)
        ended = await asyncio.gather(*(store.end("ses_one") for _ in range(8)))
        assert sum(ended) == 1
        assert await store.find(_hash("one"), NOW) is None
        assert await store.by_id("ses_one", NOW) is None
        assert await store.of_account("usr_ann", NOW) == [stored("two")]
        assert not await store.touch(_hash("one"), NOW, NOW + 9)
        assert not await store.replace(_hash("one"), stored(token_hash=_hash("x")))

    run(scenario)


def test_an_account_keeps_its_newest(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        await store.open(stored("bob", account_id="usr_bob"), keep=3)
        ended: list[str] = []
        for n in range(6):
            at = NOW + n
            ended += await store.open(stored(f"s{n}", created_at=at, seen_at=at), keep=3)
        assert ended == ["ses_s0", "ses_s1", "ses_s2"]
        assert [one.id for one in await store.of_account("usr_ann", NOW + 9)] == ["ses_s5", "ses_s4", "ses_s3"]
        assert await store.find(_hash("s0"), NOW + 9) is None
        assert [one.id for one in await store.of_account("usr_bob", NOW)] == ["ses_bob"]

    run(scenario)


def test_what_is_over_does_not_count_as_kept(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SessionStore) -> None:
        for n in range(3):
            await store.open(stored(f"old{n}", ends_at=NOW + 10), keep=3)
        assert await store.open(stored("new", created_at=NOW + 20, seen_at=NOW + 20), keep=3) == []

    run(scenario)
