"""One SQLite connection with a thread of its own, and one transaction for all that waits: group commit.

WAL with `synchronous=FULL`: when a call returns, its effect survives a power cut. The event loop never waits for a
disk. Each piece of work runs in a savepoint, so one that fails takes back its own changes only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rempart.kernel.errors import RempartError, Unavailable

from .job_threads import Job, JobThreads, Outcome

T = TypeVar("T")


class SqliteThread:
    """`schema` is SQL that may run at every start. A read-only instance opens no transaction and waits for none."""

    def __init__(self, path: Path, schema: str = "", *, read_only: bool = False) -> None:
        if not read_only:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = connect(path, read_only=read_only)
        try:
            self._connection.execute("PRAGMA foreign_keys=ON")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.executescript(schema)
        except sqlite3.Error as error:
            raise unavailable(error) from None
        settle = self._read if read_only else self._commit
        self._thread = JobThreads(f"sqlite:{path.name}", 1, settle, self._connection.close)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once it is committed; raises what it raises, or Unavailable `store_unavailable`."""
        return await self._thread.run(work)

    def close(self) -> None:
        """Finish what was asked, then close; blocks for that long."""
        self._thread.close()

    def _read(self, batch: list[Job]) -> list[Outcome]:
        return [(future, *_attempt(work, self._connection)) for work, future in batch]

    def _commit(self, batch: list[Job]) -> list[Outcome]:
        connection, outcomes = self._connection, []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                connection.execute("SAVEPOINT job")
                result, error = _attempt(work, connection)
                if error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
                outcomes.append((future, result, error))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [(future, None, unavailable(error)) for _, future in batch]
        return outcomes


def connect(path: Path, *, read_only: bool, patience: float = 5.0) -> sqlite3.Connection:
    """`patience`: seconds to wait for a lock. Raises Unavailable `store_unavailable`."""
    try:
        return sqlite3.connect(
            f"file:{path}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=patience,
        )
    except sqlite3.Error as error:
        raise unavailable(error) from None


def _attempt(
    work: Callable[[sqlite3.Connection], Any], connection: sqlite3.Connection
) -> tuple[Any, BaseException | None]:
    try:
        return work(connection), None
    except RempartError as error:
        return None, error
    except sqlite3.Error as error:
        return None, unavailable(error)
    except Exception as error:
        return None, error


def unavailable(error: sqlite3.Error) -> Unavailable:
    return Unavailable("store_unavailable", f"the database failed: {error}", "see that its disk is there and not full")
