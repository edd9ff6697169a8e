"""`backends.sql.Database` on one SQLite file: one writer with group commit, one reader beside it, and
look-ups by index on the caller's own thread.

Trusted: who can write the file can make themselves administrator. Durability as `sqlite_thread` says.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rempart.telemetry.spans import step

from .sql import Tx, UniqueViolation, Value
from .sqlite_thread import SqliteThread, connect, unavailable

T = TypeVar("T")
_UNIQUE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_TYPES = ((re.compile(r"\bBIGINT\b"), "INTEGER"), (re.compile(r"\bDOUBLE PRECISION\b"), "REAL"))
_TABLE = re.compile(r"\s*CREATE TABLE\b")


@dataclass(frozen=True, slots=True)
class _Rows:
    rowcount: int
    _rows: list[Any]

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows


class _SqliteTx:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.violation: UniqueViolation | None = None

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> _Rows:
        try:
            cursor = self._connection.execute(statement, parameters)
            rows = cursor.fetchall()
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _UNIQUE:
                raise
            self.violation = UniqueViolation(str(error))
            raise self.violation from None
        return _Rows(cursor.rowcount, rows)


class SqliteDatabase:
    """The file is made for its owner alone (0600). Tables are STRICT."""

    def __init__(self, path: Path) -> None:
        self._writer = SqliteThread(path)
        self._reader = SqliteThread(path, read_only=True)
        self._near = connect(path, read_only=True, patience=0.0)

    async def write(self, work: Callable[[Tx], T]) -> T:
        def alone(connection: sqlite3.Connection) -> T:
            tx = _SqliteTx(connection)
            result = work(tx)
            if tx.violation is not None:  # PostgreSQL could not commit either
                raise tx.violation
            return result

        with step("store"):
            return await self._writer.run(alone)

    async def read(self, work: Callable[[Tx], T]) -> T:
        def snapshot(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN")
            try:
                return work(_SqliteTx(connection))
            finally:
                connection.execute("ROLLBACK")

        return await self._reader.run(snapshot)

    async def look_up(self, query: str, parameters: Sequence[Value] = ()) -> Sequence[Any]:
        """A hand-over to a thread and back would cost many times the query, and twice wait for the interpreter's lock.
        Where the file is locked as a whole, which recovery does, the reader waits for it instead of the event loop."""
        try:
            return self._near.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return await self.read(lambda tx: tx.execute(query, parameters).fetchall())
            raise unavailable(error) from None

    async def ensure(self, schema: Sequence[str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for statement in schema:
                try:
                    connection.execute(_dialect(statement))
                except sqlite3.OperationalError as error:
                    if not str(error).startswith("duplicate column name"):
                        raise

        await self._writer.run(work)

    async def close(self) -> None:
        self._near.close()
        await asyncio.to_thread(self._reader.close)
        await asyncio.to_thread(self._writer.close)


def _dialect(statement: str) -> str:
    for pattern, word in _TYPES:
        statement = pattern.sub(word, statement)
    return f"{statement.rstrip().rstrip(';')} STRICT" if _TABLE.match(statement) else statement
