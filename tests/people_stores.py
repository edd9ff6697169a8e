"""Every backend that a store of people runs on, for contract suites: SQLite, real PostgreSQL, real Redis.

A suite says `from tests.people_stores import postgres_server, redis_server` for the fixtures (one server per module).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from tests.postgres import fresh_postgres, postgres
from tests.redis_server import fresh_redis, private_redis

from rempart.backends.redis_server import RedisServer
from rempart.backends.sql import Database
from rempart.backends.sqlite_sql import SqliteDatabase


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    with postgres() as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def redis_server() -> Iterator[str]:
    with private_redis() as server:
        yield server.address


@contextlib.asynccontextmanager
async def fresh_sqlite(directory: Path, schema: Sequence[str] = ()) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(directory / "people.db")
    try:
        await database.ensure(schema)
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def fresh_database(request: pytest.FixtureRequest, kind: str, schema: Sequence[str]) -> AsyncIterator[Database]:
    """`kind` is `sqlite` or `postgres`."""
    if kind == "sqlite":
        async with fresh_sqlite(request.getfixturevalue("tmp_path"), schema) as sqlite:
            yield sqlite
    else:
        async with fresh_postgres(request.getfixturevalue("postgres_server")) as database:
            await database.ensure(schema)
            yield database


@contextlib.asynccontextmanager
async def redis_for(request: pytest.FixtureRequest) -> AsyncIterator[RedisServer]:
    async with fresh_redis(request.getfixturevalue("redis_server")) as server:
        yield server
