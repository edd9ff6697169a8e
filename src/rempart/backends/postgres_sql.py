"""`backends.sql.Database` on PostgreSQL: serialisable transactions, tried again when they collide.

A connection that broke is replaced; work whose transaction had not come to its COMMIT is done again on the new one.
Whether a COMMIT that got no answer took effect is unknown: that is Unavailable, and the caller's retry must be safe.
Passwords come from libpq's own places (PGPASSFILE, a service file), never from the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from rempart.kernel.errors import Unavailable
from rempart.telemetry.spans import step

from .job_threads import Job, JobThreads, Outcome
from .sql import Rows, Tx, UniqueViolation, Value

T = TypeVar("T")
_Connection = psycopg.Connection[tuple[Any, ...]]
_READERS = 2
_ATTEMPTS = 20
_TOGETHER = 3  # attempts before what waits is done one by one
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_SCHEMA_LOCK = 0x72656D70617274  # any number that others don't use: "rempart"
# Serialisable transactions remember what they read: of a scan the whole table, so that every writer would collide.
_SESSION = (
    "SET enable_seqscan = off; SET synchronous_commit = on; SET statement_timeout = '10s'; SET lock_timeout = '5s';"
    " SET idle_in_transaction_session_timeout = '30s'; SET client_encoding = 'UTF8'"
)
_WRITE = "BEGIN ISOLATION LEVEL SERIALIZABLE"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"  # one snapshot, as SQLite's readers have
_ENSURE = "BEGIN ISOLATION LEVEL READ COMMITTED"


def connection_parameters(address: str, application: str) -> dict[str, Any]:
    """Of psycopg.connect. Another host must prove its name over TLS."""
    given = conninfo_to_dict(address)
    host = str(given.get("host", ""))
    remote = host not in _LOCAL and not host.startswith("/")
    return {
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "application_name": application,
        **({"sslmode": "verify-full"} if remote else {}),
        **given,
    }


class _PostgresTx:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.violation: UniqueViolation | None = None

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        try:
            cursor = self._connection.execute(_placeholders(statement), parameters)
        except errors.UniqueViolation as error:
            self.violation = UniqueViolation(error.diag.message_primary or "")
            raise self.violation from None
        return _Rows(cursor.rowcount, cursor.fetchall() if cursor.description else [])


class _Rows:
    __slots__ = ("_rows", "rowcount")

    def __init__(self, rowcount: int, rows: list[Any]) -> None:
        self.rowcount, self._rows = rowcount, rows

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows


class PostgresDatabase:
    """`address` is a `postgresql://` URL or a conninfo string. Another host must prove its name over TLS.

    One thread writes, in one transaction for all that waits (group commit); others read beside it.
    """

    def __init__(self, address: str) -> None:
        self._parameters = connection_parameters(address, "rempart people")
        self._idle: queue.LifoQueue[_Connection] = queue.LifoQueue()
        self._writer = JobThreads("postgres-writer", 1, self._commit, self._forget_one)
        self._readers = JobThreads("postgres-reader", _READERS, self._read, self._forget_one)

    async def write(self, work: Callable[[Tx], T]) -> T:
        with step("store"):
            return await self._writer.run(work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._readers.run(work)

    async def look_up(self, query: str, parameters: Sequence[Value] = ()) -> Sequence[Any]:
        return await self.read(lambda tx: tx.execute(query, parameters).fetchall())

    async def ensure(self, schema: Sequence[str]) -> None:
        def work(connection: _Connection) -> None:
            tx = _PostgresTx(connection)
            tx.execute("SELECT pg_advisory_xact_lock(?)", (_SCHEMA_LOCK,))
            for statement in schema:
                statement = re.sub(r"\bADD COLUMN\b", "ADD COLUMN IF NOT EXISTS", statement)
                tx.execute(re.sub(r"\bBLOB\b", "BYTEA", statement))

        await asyncio.to_thread(self._try, _ENSURE, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.close)
        self._forget_one()

    def _forget_one(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._idle.get_nowait().close()

    def _read(self, batch: list[Job]) -> list[Outcome]:
        return [self._alone(_READ, job) for job in batch]

    def _commit(self, batch: list[Job]) -> list[Outcome]:
        if len(batch) > 1:
            try:
                return self._try(_WRITE, lambda connection: _group(connection, batch), attempts=_TOGETHER)
            except _Collided:
                pass  # other instances work on the same records: apart, less has to be done again
            except Unavailable as error:
                return [(future, None, error) for _, future in batch]
        return [self._alone(_WRITE, job) for job in batch]

    def _alone(self, begin: str, job: Job) -> Outcome:
        work, future = job
        try:
            return future, self._try(begin, lambda connection: _within(connection, work)), None
        except _Collided:
            why = Unavailable("store_unavailable", "too many changes at once to the same records", "try again")
            return future, None, why
        except Exception as error:
            return future, None, error

    def _try(self, begin: str, work: Callable[[_Connection], T], *, attempts: int = _ATTEMPTS) -> T:
        """`work` in a transaction of its own. Raises what it raises, Unavailable, and _Collided."""
        for attempt in range(attempts):
            try:
                return self._once(begin, work)
            except (errors.SerializationFailure, errors.DeadlockDetected):
                time.sleep(random.random() * 0.002 * 2 ** min(attempt, 6))  # nosec B311 - so that rivals part
            except _StaleConnection:
                continue  # nothing was committed; at most one for each connection that was idle
            except psycopg.Error as error:
                raise _unavailable(error) from None
        raise _Collided

    def _once(self, begin: str, work: Callable[[_Connection], T]) -> T:
        connection, reused = self._connect()
        committing = False
        try:
            connection.execute(begin, prepare=False)
            result = work(connection)
            committing = True
            connection.execute("COMMIT", prepare=False)
            return result
        except BaseException as error:
            if isinstance(error, psycopg.Error) and connection.broken and reused and not committing:
                raise _StaleConnection from None
            if not connection.closed:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK", prepare=False)
            raise
        finally:
            if connection.closed:
                connection.close()
            else:
                self._idle.put(connection)

    def _connect(self) -> tuple[_Connection, bool]:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait(), True
        connection = psycopg.connect(**self._parameters, autocommit=True)
        connection.execute(_SESSION)
        return connection, False


def _within(connection: _Connection, work: Callable[[Tx], T]) -> T:
    tx = _PostgresTx(connection)
    result = work(tx)
    if tx.violation is not None:
        raise tx.violation
    return result


def _group(connection: _Connection, batch: list[Job]) -> list[Outcome]:
    """Each in a savepoint: one that fails takes back its own changes only."""
    outcomes: list[Outcome] = []
    for work, future in batch:
        connection.execute("SAVEPOINT job", prepare=False)
        try:
            outcomes.append((future, _within(connection, work), None))
        except (errors.SerializationFailure, errors.DeadlockDetected):
            raise
        except Exception as error:
            if connection.broken:
                raise
            connection.execute("ROLLBACK TO job", prepare=False)
            outcomes.append((future, None, _unavailable(error) if isinstance(error, psycopg.Error) else error))
        connection.execute("RELEASE job", prepare=False)
    return outcomes


class _Collided(Exception):
    """With transactions of other instances, again and again."""


class _StaleConnection(Exception):
    """The server closed a connection while it was idle, or restarted."""


@lru_cache(512)
def _placeholders(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


def _unavailable(error: psycopg.Error) -> Unavailable:
    """Names the fault, not the values that met it."""
    why = error.diag.message_primary or type(error).__name__
    return Unavailable(
        "store_unavailable", f"the database failed: {why}", "see that PostgreSQL runs and can be reached"
    )
