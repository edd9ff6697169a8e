"""The ledger in PostgreSQL: one SQL function, and so one transaction and one round trip, per order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import msgspec
import psycopg

from rempart.sdk import OutgoingEvent, Unavailable

from .ledger import MAX_BALANCE, Kind, Order, Outcome, Page, Soundness, Transaction, event_of, position, told

_SCHEMA = Path(__file__).with_name("schema_postgres.sql")
_SELECT: LiteralString = """SELECT t.id, t.kind, t.source, t.destination, t.amount, t.at, t.original, t.reason,
    EXISTS (SELECT 1 FROM transfers r WHERE r.original = t.id), t.xid::text, t.seq FROM transfers t"""
_TRANSFER: LiteralString = (
    "SELECT bank_transfer(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s)"
)
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
_TRY_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class PostgresLedger:
    """Implements Ledger. Several processes may share the database; `open` makes what is missing in it."""

    def __init__(self, conninfo: str, connections: int) -> None:
        self._conninfo = conninfo
        self._idle: asyncio.Queue[psycopg.AsyncConnection[tuple[Any, ...]] | None] = asyncio.Queue()
        for _ in range(connections):
            self._idle.put_nowait(None)  # connected when first used, and again when lost
        self._connections = connections

    @staticmethod
    async def open(conninfo: str, *, connections: int = 4) -> PostgresLedger:
        """Raises Unavailable `ledger_unavailable`."""
        ledger = PostgresLedger(conninfo, connections)
        # One at a time: CREATE OR REPLACE of the same function by two processes at once fails.
        await ledger._run("SELECT pg_advisory_lock(2, 1)", (), script=_SCHEMA.read_text())
        return ledger

    async def transfer(self, order: Order) -> Outcome:
        event, refusal = event_of(order, ""), event_of(order, "refused")
        rows = await self._run(
            _TRANSFER,
            (
                order.transaction_id,
                str(order.kind),
                order.source,
                order.destination,
                order.amount,
                order.at,
                order.scope,
                order.key,
                order.body_hash() if order.key else "",
                order.original,
                order.reason,
                order.person,
                order.workload,
                event.id,
                msgspec.json.encode(event).decode(),
                msgspec.json.encode(refusal).decode(),
                MAX_BALANCE,
            ),
        )
        return told(msgspec.json.decode(rows[0][0], type=Outcome))

    async def balance(self, account: str) -> int:
        rows = await self._run("SELECT balance FROM entries WHERE account = %s ORDER BY seq DESC LIMIT 1", (account,))
        return int(rows[0][0]) if rows else 0

    async def find(self, transaction_id: str) -> Transaction | None:
        rows = await self._run(_SELECT + " WHERE t.id = %s", (transaction_id,))
        return _transaction(rows[0]) if rows else None

    async def recent(self, account: str, limit: int) -> Sequence[Transaction]:
        statement = _SELECT + " JOIN entries e ON e.transfer = t.id WHERE e.account = %s ORDER BY e.seq DESC LIMIT %s"
        return [_transaction(row) for row in await self._run(statement, (account, limit))]

    async def transactions(self, account: str | None, since: float, after: str, limit: int) -> Page:
        xid, seq = position(after)
        statement = (
            _SELECT
            + """ WHERE t.xid < pg_snapshot_xmin(pg_current_snapshot()) AND (t.xid, t.seq) > (%s::text::xid8, %s)
                AND t.at >= %s AND (%s::text IS NULL OR t.source = %s OR t.destination = %s)
                ORDER BY t.xid, t.seq LIMIT %s"""
        )
        rows = await self._run(statement, (str(xid), seq, since, account, account, account, limit + 1))
        page = rows[:limit]
        following = f"after-{page[-1][9]}-{page[-1][10]}" if len(rows) > limit else ""
        return Page([_transaction(row) for row in page], following)

    async def refuse(self, event: OutgoingEvent) -> None:
        await self._run(
            "INSERT INTO outbox (id, event) VALUES (%s, %s)", (event.id, msgspec.json.encode(event).decode())
        )

    async def pending(self, limit: int) -> Sequence[OutgoingEvent]:
        rows = await self._run("SELECT event FROM outbox ORDER BY seq LIMIT %s", (limit,))
        return [msgspec.json.decode(row[0], type=OutgoingEvent) for row in rows]

    async def posted(self, ids: Sequence[str]) -> None:
        await self._run("DELETE FROM outbox WHERE id = ANY (%s)", (list(ids),))

    async def examine(self) -> Soundness:
        rows = await self._run(_EXAMINE, ())
        transfers, total, *found = (int(value or 0) for value in rows[0])
        problems = [f"{count} × {what}" for count, what in zip(found, _PROBLEMS, strict=True) if count]
        if total:
            problems.append(f"all entries sum to {total}, not to zero")
        return Soundness(transfers, total, problems)

    async def close(self) -> None:
        for _ in range(self._connections):
            connection = await self._idle.get()
            if connection is not None:
                await connection.close()

    async def _run(
        self, statement: LiteralString, values: tuple[Any, ...], *, script: str = ""
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement in a transaction of its own; `script` runs after it on the same connection.

        Tried again once when the connection was lost before the statement, or the server asks for it (deadlock).
        """
        connection = await self._idle.get()
        try:
            for attempt in (1, 2, 3):
                try:
                    if connection is None or connection.closed:
                        connection = await self._connect()
                    cursor = await connection.execute(statement, values)
                    rows = await cursor.fetchall() if cursor.description else []
                    if script:
                        await connection.execute(script.encode())
                        await connection.execute("SELECT pg_advisory_unlock(2, 1)")
                    return rows
                except _TRY_AGAIN as error:
                    if attempt == 3:
                        raise _unavailable(error) from None
                except _LOST as error:
                    if connection is not None:
                        await connection.close()
                    connection = None
                    if attempt == 3 or not _repeatable(statement, values):
                        raise _unavailable(error) from None
        except psycopg.Error as error:
            raise _unavailable(error) from None
        except asyncio.CancelledError:
            if connection is not None:
                await connection.close()  # its statement may still run: nobody else may read that answer
            connection = None
            raise
        finally:
            self._idle.put_nowait(connection)
        raise AssertionError("unreachable")

    async def _connect(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, connect_timeout=5)
        await connection.execute("SET synchronous_commit = on")
        await connection.execute("SET statement_timeout = '5s'")
        return connection


def _repeatable(statement: str, values: tuple[Any, ...]) -> bool:
    """Whether running it twice is the same as once: a transfer without a key may have taken place."""
    return statement is not _TRANSFER or bool(values[7])


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(
        "ledger_unavailable", f"the ledger failed: {type(error).__name__}", "see PostgreSQL and `rempart logs wallet`"
    )


def _transaction(row: Sequence[Any]) -> Transaction:
    identifier, kind, source, destination, amount, at, original, reason, reversed_ = row[:9]
    status = "rolled_back" if reversed_ else "completed"
    return Transaction(identifier, Kind(kind), source, destination, amount, status, at, original, reason)


_PROBLEMS = (
    "a transfer without exactly two entries that sum to zero",
    "an entry that isn't its transfer's",
    "a balance that isn't the sum of its account",
    "a negative balance",
)
_EXAMINE: LiteralString = """SELECT
    (SELECT count(*) FROM transfers),
    (SELECT sum(amount) FROM entries),
    (SELECT count(*) FROM transfers t WHERE
        (SELECT count(*) <> 2 OR sum(amount) <> 0 FROM entries e WHERE e.transfer = t.id)),
    (SELECT count(*) FROM entries e JOIN transfers t ON t.id = e.transfer WHERE
        (e.account, e.amount) NOT IN ((t.source, -t.amount), (t.destination, t.amount))),
    (SELECT count(*) FROM (SELECT balance, sum(amount) OVER (PARTITION BY account ORDER BY seq) AS summed FROM entries)
    AS chain
        WHERE balance <> summed),
    (SELECT count(*) FROM entries WHERE balance < 0 AND account <> 'system:deposits')"""
