"""`audit.storage.LogStorage` in PostgreSQL. Trusted as the directory would be: watch it, have it witnessed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg

from rempart.kernel.errors import Conflict, Integrity, Unavailable

from .postgres_sql import connection_parameters

T = TypeVar("T")
_Connection = psycopg.Connection[tuple[Any, ...]]
_LOCK = 0x72656D706C6F67  # "remplog": the one writer holds it for its session
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS rempart_log_file (name TEXT PRIMARY KEY, data BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rempart_log_state (one INT PRIMARY KEY CHECK (one = 1), data BYTEA, saved BIGINT)",
)
_PUT = "INSERT INTO rempart_log_file VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET data = excluded.data"


class PostgresLog:
    """Any thread. A session lock refuses a second writer; and should the session break, its next state is refused."""

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        """`read_only`: beside a writer, and not to be written by. Raises Conflict `log_locked`, Unavailable."""
        self._read_only = read_only
        self._parameters = connection_parameters(address, "rempart log")
        self._lock = threading.RLock()
        self._db: _Connection | None = None
        self._saved = -1  # the number of the state as it was last read or written; -1 when there is none
        with self._lock:
            self._connect()

    def __str__(self) -> str:
        return "the log's PostgreSQL"

    def read(self, name: str) -> bytes | None:
        row = self._do(lambda db: db.execute("SELECT data FROM rempart_log_file WHERE name = %s", (name,)).fetchone())
        return bytes(row[0]) if row else None

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        def put(db: _Connection) -> None:
            with db.transaction(), db.cursor() as cursor:
                self._check_owned(cursor)
                cursor.executemany(_PUT, files)

        self._do(put)

    def delete(self, names: Iterable[str]) -> None:
        wanted = list(names)
        self._do(lambda db: db.execute("DELETE FROM rempart_log_file WHERE name = ANY(%s)", (wanted,)))

    def names(self, prefix: str) -> Iterator[str]:
        query = "SELECT name FROM rempart_log_file WHERE starts_with(name, %s)"
        return iter([str(row[0]) for row in self._do(lambda db: db.execute(query, (prefix,)).fetchall())])

    def load_state(self) -> bytes | None:
        row = self._do(lambda db: db.execute("SELECT data, saved FROM rempart_log_state").fetchone())
        if row is None:
            return None
        if self._saved >= 0 and row[1] not in (self._saved, self._saved + 1):  # the next: a COMMIT without an answer
            raise _taken_over()
        self._saved = int(row[1])
        return bytes(row[0])

    def save_state(self, state: bytes) -> None:
        insert = "INSERT INTO rempart_log_state VALUES (1, %s, 0) ON CONFLICT (one) DO NOTHING"
        update = "UPDATE rempart_log_state SET data = %s, saved = saved + 1 WHERE saved = %s"

        def save(db: _Connection) -> int:
            if self._saved < 0:
                return db.execute(insert, (state,)).rowcount
            return db.execute(update, (state, self._saved)).rowcount

        if self._do(save) != 1:
            raise _taken_over()
        self._saved += 1

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self.write([(name, data)])

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check_owned(self, cursor: psycopg.Cursor[Any]) -> None:
        """Within the transaction: a writer whose session broke must not touch what another has committed."""
        if self._saved >= 0:
            query = "SELECT one FROM rempart_log_state WHERE saved = %s FOR SHARE"
            if cursor.execute(query, (self._saved,)).fetchone() is None:
                raise _taken_over()

    def _do(self, work: Callable[[_Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._db or self._connect())
            except psycopg.Error as error:
                self.close()
                raise _unavailable(error) from None

    def _connect(self) -> _Connection:
        try:
            db = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.Error as error:
            raise _unavailable(error) from None
        try:
            db.execute("SET synchronous_commit = on")
            db.execute("SET statement_timeout = '30s'")
            if self._read_only:
                db.execute("SET default_transaction_read_only = on")
                self._db = db
                return db
            if not _first(db.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()):
                raise Conflict("log_locked", "another process writes this log", "stop that process first")
            for statement in _SCHEMA:
                db.execute(statement)
        except psycopg.Error as error:
            db.close()
            raise _unavailable(error) from None
        except Conflict:
            db.close()
            raise
        self._db = db
        return db


def _first(row: tuple[Any, ...] | None) -> Any:
    return row[0] if row else None


def _taken_over() -> Integrity:
    return Integrity("log_taken_over", "another sequencer writes this log", "stop one of them")


def _unavailable(error: psycopg.Error) -> Unavailable:
    return Unavailable(
        "log_storage_unavailable", f"PostgreSQL: {type(error).__name__}", "see whether the database answers"
    )
