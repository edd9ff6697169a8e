"""One SQLite connection with a thread of its own, and one transaction for all that waits: group commit.

WAL with `synchronous=FULL`: when a call returns, its effect survives a power cut. The event loop never waits for a
disk. Each piece of work runs in a savepoint, so one that fails takes back its own changes only.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rempart.kernel.errors import RempartError, Unavailable

T = TypeVar("T")
_BATCH = 64
_WAITING = 4096
_Work = Callable[[sqlite3.Connection], Any]
_Job = tuple[_Work, "asyncio.Future[Any]"]
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


class SqliteThread:
    """`schema` is SQL that may run at every start. A read-only instance opens no transaction and waits for none."""

    def __init__(self, path: Path, schema: str = "", *, read_only: bool = False) -> None:
        if not read_only:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._read_only = read_only
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        try:
            self._connection = sqlite3.connect(
                f"file:{path}?mode={'ro' if read_only else 'rw'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=5.0,
            )
            self._connection.execute("PRAGMA foreign_keys=ON")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.executescript(schema)
        except sqlite3.Error as error:
            raise _unavailable(error) from None
        self._thread = threading.Thread(target=self._work, name=f"sqlite:{path.name}", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once it is committed; raises what it raises, or Unavailable `store_unavailable`."""
        if self._closed or self._jobs.qsize() >= _WAITING:
            raise Unavailable("store_unavailable", "the store is closed or has too much to do", "try again later")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, future))
        return await future

    def close(self) -> None:
        """Finish what was asked, then close; blocks for that long."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join(timeout=10)

    def _work(self) -> None:
        stop = False
        while not stop:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= _BATCH:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            stop = job is None
            if batch:
                _settle(self._read(batch) if self._read_only else self._commit(batch))
        self._connection.close()

    def _read(self, batch: list[_Job]) -> list[_Outcome]:
        return [(future, *_attempt(work, self._connection)) for work, future in batch]

    def _commit(self, batch: list[_Job]) -> list[_Outcome]:
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
            return [(future, None, _unavailable(error)) for _, future in batch]
        return outcomes


def _attempt(
    work: Callable[[sqlite3.Connection], Any], connection: sqlite3.Connection
) -> tuple[Any, BaseException | None]:
    try:
        return work(connection), None
    except RempartError as error:
        return None, error
    except sqlite3.Error as error:
        return None, _unavailable(error)
    except Exception as error:
        return None, error


def _settle(outcomes: list[_Outcome]) -> None:
    """Wake each event loop once for all that it waits for."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].get_loop(), []).append(outcome)
    for loop, mine in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, mine)


def _deliver(outcomes: list[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _unavailable(error: sqlite3.Error) -> Unavailable:
    return Unavailable("store_unavailable", f"the database failed: {error}", "see that its disk is there and not full")
