"""Who took part in a session and must be told of its end, in SQL: implements `people.authorize.ports.LogoutStore`."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.people.authorize.ports import Delivery

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS session_clients(session_id TEXT NOT NULL, client_id TEXT NOT NULL,"
    " account_id TEXT NOT NULL, until DOUBLE PRECISION NOT NULL, PRIMARY KEY(session_id, client_id))",
    "CREATE INDEX IF NOT EXISTS session_clients_by_end ON session_clients(until)",
    "CREATE TABLE IF NOT EXISTS logout_deliveries(id TEXT PRIMARY KEY, session_id TEXT NOT NULL,"
    " client_id TEXT NOT NULL, account_id TEXT NOT NULL, attempts BIGINT NOT NULL, due DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS logout_deliveries_by_due ON logout_deliveries(due)",
)


class SqlLogouts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def joined(self, session_id: str, client_id: str, account_id: str, until: float) -> None:
        statement = (
            "INSERT INTO session_clients(session_id, client_id, account_id, until) VALUES(?,?,?,?)"
            " ON CONFLICT(session_id, client_id) DO UPDATE SET until = excluded.until"
        )
        values = (session_id, client_id, account_id, until)
        await self._database.write(lambda tx: tx.execute(statement, values).rowcount)

    async def ended(self, session_id: str, now: float) -> int:
        def work(tx: Tx) -> int:
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

        return await self._database.write(work)

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
