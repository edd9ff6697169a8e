"""Where this instance of people keeps its state: SQLite or PostgreSQL, and what is short-lived there or in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rempart.backends import sql_accounts, sql_families, sql_once, sql_ring, sql_sessions
from rempart.backends.sql import Database
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_families import SqlFamilies
from rempart.backends.sql_once import SqlOnce
from rempart.backends.sql_sessions import SqlSessions
from rempart.backends.sql_version import claim_version
from rempart.backends.sqlite_sql import SqliteDatabase
from rempart.kernel.clock import Clock
from rempart.kernel.ids import new_id
from rempart.people.ports import OnceStore
from rempart.people.sessions.ports import SessionStore
from rempart.people.throttle_counters import Counters, LocalCounters
from rempart.wiring.people_state import DATABASE, SQLITE, StateSettings

VERSION = 1  # of these tables: the next number is for a change that this program would spoil
SCHEMA = (*sql_accounts.SCHEMA, *sql_families.SCHEMA, *sql_once.SCHEMA, *sql_sessions.SCHEMA, *sql_ring.SCHEMA)


@dataclass(frozen=True)
class State:
    """`counters(purpose)` count failed attempts: of all instances with Redis, else of this one."""

    database: Database
    store: SqlAccounts
    families: SqlFamilies
    once: OnceStore
    sessions: SessionStore
    counters: Callable[[str], Counters]
    closing: Sequence[Callable[[], Awaitable[None]]]

    async def close(self) -> None:
        for close in self.closing:
            await close()


async def open_state(settings: StateSettings, data_dir: Path, more: Sequence[str], clock: Clock) -> State:
    """`more`: the schema of other rooms. Raises Unavailable `store_unavailable`, BadInput `bad_settings`, Conflict
    `newer_schema`."""
    database, instance = _database(settings.database, data_dir)
    await claim_version(database, "people", VERSION)
    await database.ensure((*SCHEMA, *more))
    store, families = SqlAccounts(database, instance=instance), SqlFamilies(database)
    if settings.sessions == DATABASE:
        return State(
            database,
            store,
            families,
            SqlOnce(database, clock),
            SqlSessions(database),
            lambda _: LocalCounters(clock),
            (database.close,),
        )
    from rempart.backends.redis_once import RedisOnce
    from rempart.backends.redis_server import RedisServer
    from rempart.backends.redis_sessions import RedisSessions
    from rempart.backends.redis_throttle import RedisCounters

    redis = RedisServer(settings.sessions)
    state = State(
        database,
        store,
        families,
        RedisOnce(redis, clock),
        RedisSessions(redis),
        lambda name: RedisCounters(redis, clock, name),
        (redis.close, database.close),
    )
    try:
        await redis.ready()
    except BaseException:
        await state.close()
        raise
    return state


def _database(address: str, data_dir: Path) -> tuple[Database, str]:
    """The database, and the name of this instance among those that share it."""
    if address == SQLITE:
        return SqliteDatabase(data_dir / "people.db"), ""
    from rempart.backends.postgres_sql import PostgresDatabase

    return PostgresDatabase(address), new_id("ins")
