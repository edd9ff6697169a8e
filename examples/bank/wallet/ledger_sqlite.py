"""The ledger in one SQLite file: a single writer thread, whose transactions each take in all orders that wait.

Durable by WAL and `synchronous=FULL`: each commit is one fsync of the log, shared by the orders in it. One process at a
time writes; a reader thread of its own sees what is committed and never waits for the writer.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rempart.sdk import OutgoingEvent, Unavailable

from .ledger import (
    Kind,
    Order,
    Outcome,
    Page,
    Soundness,
    Transaction,
    event_of,
    judge,
    position,
    told,
)

T = TypeVar("T")
_MAX_BATCH = 128
_SCHEMA = Path(__file__).with_name("schema_sqlite.sql")
_SELECT = """SELECT t.seq, t.id, t.kind, t.source, t.destination, t.amount, t.at, t.original, t.reason,
    EXISTS (SELECT 1 FROM transfers r WHERE r.original = t.id) FROM transfers t"""


class SqliteLedger:
    """Implements Ledger; `path` is the file, made with its directory's rights when absent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._writer = _open(path)
            self._writer.executescript(_SCHEMA.read_text())
            self._reader = _open(path)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise Unavailable(
                "ledger_unavailable", f"the ledger in {path.name} can't be opened: {error}", "see docs, or restore it"
            ) from None
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="ledger-writer", daemon=True)
        self._thread.start()
        self._readers = ThreadPoolExecutor(1, "ledger-reader")

    async def transfer(self, order: Order) -> Outcome:
        return told(await self._write(lambda: self._apply(order)))

    async def balance(self, account: str) -> int:
        return await self._read(lambda: _last(self._reader, account)[1])

    async def find(self, transaction_id: str) -> Transaction | None:
        rows = await self._read(lambda: self._reader.execute(f"{_SELECT} WHERE t.id = ?", (transaction_id,)).fetchall())
        return _transaction(rows[0]) if rows else None

    async def recent(self, account: str, limit: int) -> Sequence[Transaction]:
        statement = f"{_SELECT} JOIN entries e ON e.transfer = t.seq WHERE e.account = ? ORDER BY e.seq DESC LIMIT ?"
        rows = await self._read(lambda: self._reader.execute(statement, (account, limit)).fetchall())
        return [_transaction(row) for row in rows]

    async def transactions(self, account: str | None, since: float, after: str, limit: int) -> Page:
        conditions = ["t.at >= ?", "t.seq > ?"]
        values: list[float | str] = [since, position(after)[1]]
        if account is not None:
            conditions.append("t.seq IN (SELECT transfer FROM entries WHERE account = ?)")
            values.append(account)
        statement = f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY t.seq LIMIT ?"
        rows = await self._read(lambda: self._reader.execute(statement, (*values, limit + 1)).fetchall())
        page = rows[:limit]
        return Page([_transaction(row) for row in page], f"after-0-{page[-1][0]}" if len(rows) > limit else "")

    async def refuse(self, event: OutgoingEvent) -> None:
        await self._write(lambda: self._put_out(event))

    async def pending(self, limit: int) -> Sequence[OutgoingEvent]:
        rows = await self._read(
            lambda: self._reader.execute("SELECT event FROM outbox ORDER BY seq LIMIT ?", (limit,)).fetchall()
        )
        return [msgspec.json.decode(row[0], type=OutgoingEvent) for row in rows]

    async def posted(self, ids: Sequence[str]) -> None:
        pairs = [(event_id,) for event_id in ids]
        await self._write(lambda: self._writer.executemany("DELETE FROM outbox WHERE id = ?", pairs))

    async def examine(self) -> Soundness:
        return await self._read(lambda: _examine(self._reader))

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.shutdown()
        self._reader.close()
        self._writer.close()

    # The writer's thread

    def _write_forever(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while len(batch) < _MAX_BATCH and batch[-1] is not None:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            self._commit([job for job in batch if job is not None])
            if batch[-1] is None:
                return

    def _commit(self, jobs: Sequence[tuple[Callable[[], Any], Future[Any]]]) -> None:
        if not jobs:
            return
        answers: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job, future in jobs:
                self._writer.execute("SAVEPOINT one")
                try:
                    answers.append((future, job(), None))
                except sqlite3.Error as error:
                    self._writer.execute("ROLLBACK TO one")
                    answers.append((future, None, error))
                self._writer.execute("RELEASE one")
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            answers = [(future, None, error) for _, future in jobs]
        for future, answer, failure in answers:
            if failure is not None:
                future.set_exception(_unavailable(failure))
            else:
                future.set_result(answer)

    def _apply(self, order: Order) -> Outcome:
        body_hash = order.body_hash() if order.key else ""
        if order.key:
            row = self._writer.execute(
                "SELECT body_hash, outcome FROM requests WHERE scope = ? AND key = ?", (order.scope, order.key)
            ).fetchone()
            if row is not None and row[0] == body_hash:
                return msgspec.json.decode(row[1], type=Outcome)
            if row is not None:
                self._put_out(event_of(order, "idempotency_conflict"))
                return Outcome(order.transaction_id, order.at, refused="idempotency_conflict")
        source_seq, source_balance = _last(self._writer, order.source)
        destination_seq, destination_balance = _last(self._writer, order.destination)
        refused = judge(order, source_balance, destination_balance, reversed_already=self._reversed(order.original))
        if not refused:
            source_balance -= order.amount
            destination_balance += order.amount
            transfer = self._writer.execute(
                "INSERT INTO transfers (id, kind, source, destination, amount, at, original, reason, person, workload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    order.transaction_id,
                    str(order.kind),
                    order.source,
                    order.destination,
                    order.amount,
                    order.at,
                    order.original,
                    order.reason,
                    order.person,
                    order.workload,
                ),
            ).lastrowid
            self._writer.executemany(
                "INSERT INTO entries (account, seq, transfer, amount, balance) VALUES (?, ?, ?, ?, ?)",
                [
                    (order.source, source_seq + 1, transfer, -order.amount, source_balance),
                    (order.destination, destination_seq + 1, transfer, order.amount, destination_balance),
                ],
            )
        outcome = Outcome(order.transaction_id, order.at, source_balance, destination_balance, refused)
        self._put_out(event_of(order, refused))
        if order.key:
            self._writer.execute(
                "INSERT INTO requests (scope, key, body_hash, outcome) VALUES (?, ?, ?, ?)",
                (order.scope, order.key, body_hash, msgspec.json.encode(outcome).decode()),
            )
        return outcome

    def _reversed(self, original: str | None) -> bool:
        if original is None:
            return False
        return self._writer.execute("SELECT 1 FROM transfers WHERE original = ?", (original,)).fetchone() is not None

    def _put_out(self, event: OutgoingEvent) -> None:
        self._writer.execute(
            "INSERT INTO outbox (id, event) VALUES (?, ?)", (event.id, msgspec.json.encode(event).decode())
        )

    async def _write(self, job: Callable[[], T]) -> T:
        future: Future[T] = Future()
        self._jobs.put((job, future))
        # Shielded: once handed over it will happen, whether or not the caller still waits.
        return await asyncio.shield(asyncio.wrap_future(future))

    async def _read(self, job: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, job)
        except sqlite3.Error as error:
            raise _unavailable(error) from None


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable("ledger_unavailable", f"the ledger failed: {error}", "see the disk and `rempart logs wallet`")


def _last(connection: sqlite3.Connection, account: str) -> tuple[int, int]:
    row = connection.execute(
        "SELECT seq, balance FROM entries WHERE account = ? ORDER BY seq DESC LIMIT 1", (account,)
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _transaction(row: Sequence[Any]) -> Transaction:
    _, identifier, kind, source, destination, amount, at, original, reason, reversed_ = row
    status = "rolled_back" if reversed_ else "completed"
    return Transaction(identifier, Kind(kind), source, destination, amount, status, at, original, reason)


def _examine(connection: sqlite3.Connection) -> Soundness:
    def count(statement: str) -> int:
        return int(connection.execute(statement).fetchone()[0] or 0)

    connection.execute("BEGIN")
    try:
        total = count("SELECT sum(amount) FROM entries")
        checks = {
            "a transfer without exactly two entries that sum to zero": """SELECT count(*) FROM transfers t WHERE
                (SELECT count(*) <> 2 OR sum(amount) <> 0 FROM entries WHERE transfer = t.seq)""",
            "an entry that isn't its transfer's": """SELECT count(*) FROM entries e
                JOIN transfers t ON t.seq = e.transfer WHERE
                (e.account, e.amount) NOT IN (VALUES (t.source, -t.amount), (t.destination, t.amount))""",
            "a balance that isn't the sum of its account": """SELECT count(*) FROM (SELECT balance, sum(amount) OVER
                (PARTITION BY account ORDER BY seq) AS summed FROM entries) WHERE balance <> summed""",
            "a negative balance": "SELECT count(*) FROM entries WHERE balance < 0 AND account <> 'system:deposits'",
        }
        problems = [f"{found} × {what}" for what, statement in checks.items() if (found := count(statement))]
        transfers = count("SELECT count(*) FROM transfers")
    finally:
        connection.execute("ROLLBACK")
    if total:
        problems.append(f"all entries sum to {total}, not to zero")
    return Soundness(transfers, total, problems)
