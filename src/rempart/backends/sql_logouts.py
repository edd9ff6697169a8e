"""Who took part in a session and must be told of its end, in SQL: implements `people.authorize.ports.LogoutStore`.

After `sql_accounts.SCHEMA`, whose accounts it looks at.
"""

from __future__ import annotations

from collections.abc import Sequence

from rempart.people.authorize.ports import Delivery

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS session_clients(session_id TEXT NOT NULL, client_id TEXT NOT NULL,"
    " account_id TEXT NOT NULL, epoch BIGINT NOT NULL, until DOUBLE PRECISION NOT NULL,"
    " PRIMARY KEY(session_id, client_id))",
    "CREATE INDEX IF NOT EXISTS session_clients_by_end ON session_clients(until)",
    "CREATE INDEX IF NOT EXISTS session_clients_by_account ON session_clients(account_id)",
    "CREATE TABLE IF NOT EXISTS logout_deliveries(id TEXT PRIMARY KEY, session_id TEXT NOT NULL,"
    " client_id TEXT NOT NULL, account_id TEXT NOT NULL, attempts BIGINT NOT NULL, due DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS logout_deliveries_by_due ON logout_deliveries(due)",
)


class SqlLogouts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def joined(self, session_id: str, client_id: str, account_id: str, epoch: int, until: float) -> None:
        statement = (
            "INSERT INTO session_clients(session_id, client_id, account_id, epoch, until) VALUES(?,?,?,?,?)"
            " ON CONFLICT(session_id, client_id) DO UPDATE SET until = excluded.until, epoch = excluded.epoch"
        )
        values = (session_id, client_id, account_id, epoch, until)
        await self._database.write(lambda tx: tx.execute(statement, values).rowcount)

    async def ended(self, session_id: str, now: float) -> int:
        joined = "SELECT 1 FROM session_clients WHERE session_id = ? LIMIT 1"
        if not await self._database.read(lambda tx: tx.execute(joined, (session_id,)).fetchone()):
            return 0
        return await self._database.write(lambda tx: _queue(tx, session_id, now))

    async def superseded(self, since: float, now: float) -> int:
        find = (
            "SELECT DISTINCT s.session_id FROM accounts a JOIN session_clients s ON s.account_id = a.id"
            " WHERE a.updated_at >= ? AND (a.epoch > s.epoch OR a.disabled = 1)"
        )
        over = await self._database.read(lambda tx: tx.execute(find, (since,)).fetchall())
        queued = 0
        for (session_id,) in over:
            queued += await self.ended(session_id, now)
        return queued

    async def due(self, now: float, lease: float, limit: int) -> Sequence[Delivery]:
        find = "SELECT id FROM logout_deliveries WHERE due <= ? ORDER BY due LIMIT ?"
        lend = (
            "UPDATE logout_deliveries SET due = ?, attempts = attempts + 1 WHERE id = ? AND due <= ?"
            " RETURNING id, client_id, session_id, account_id, attempts - 1"
        )

        def work(tx: Tx) -> list[Delivery]:
            lent = []
            for (delivery_id,) in tx.execute(find, (now, limit)).fetchall():
                row = tx.execute(lend, (now + lease, delivery_id, now)).fetchone()
                if row is not None:
                    lent.append(
                        Delivery(id=row[0], client_id=row[1], session_id=row[2], account_id=row[3], attempts=row[4])
                    )
            return lent

        if not await self._database.read(lambda tx: tx.execute(find, (now, 1)).fetchone()):
            return []
        return await self._database.write(work)

    async def done(self, delivery_id: str) -> None:
        statement = "DELETE FROM logout_deliveries WHERE id = ?"
        await self._database.write(lambda tx: tx.execute(statement, (delivery_id,)).rowcount)

    async def again(self, delivery_id: str, at: float) -> None:
        statement = "UPDATE logout_deliveries SET due = ? WHERE id = ?"
        await self._database.write(lambda tx: tx.execute(statement, (at, delivery_id)).rowcount)

    async def sweep(self, now: float) -> int:
        statement = "DELETE FROM session_clients WHERE until < ?"
        return await self._database.write(lambda tx: tx.execute(statement, (now,)).rowcount)


def _queue(tx: Tx, session_id: str, now: float) -> int:
    rows = tx.execute(
        "DELETE FROM session_clients WHERE session_id = ? RETURNING client_id, account_id", (session_id,)
    ).fetchall()
    for client_id, account_id in rows:
        tx.execute(
            "INSERT INTO logout_deliveries(id, session_id, client_id, account_id, attempts, due)"
            " VALUES(?,?,?,?,0,?) ON CONFLICT(id) DO NOTHING",
            (f"{session_id} {client_id}", session_id, client_id, account_id, now),
        )
    return len(rows)
