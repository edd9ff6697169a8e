"""Recent activity in SQL: implements `people.pages.activity.ActivityStore`."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.people.model import GONE
from rempart.people.pages.model import Happening

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS activity(account_id TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, what TEXT NOT NULL,"
    " success BIGINT NOT NULL, network TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS activity_of ON activity(account_id, success, at)",
    "CREATE INDEX IF NOT EXISTS activity_at ON activity(at)",
)


class SqlActivity:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, lines: Sequence[tuple[str, Happening]], *, keep: int) -> None:
        def work(tx: Tx) -> None:
            for account_id, line in lines:
                tx.execute(
                    "INSERT INTO activity(account_id, at, what, success, network) VALUES(?,?,?,?,?)",
                    (account_id, line.at, line.what, int(line.success), line.network),
                )
            for account_id, success in {(account_id, int(line.success)) for account_id, line in lines}:
                oldest = tx.execute(
                    "SELECT at FROM activity WHERE account_id = ? AND success = ? ORDER BY at DESC LIMIT 1 OFFSET ?",
                    (account_id, success, keep - 1),
                ).fetchone()
                if oldest:
                    tx.execute(
                        "DELETE FROM activity WHERE account_id = ? AND success = ? AND at < ?",
                        (account_id, success, oldest[0]),
                    )

        await self._database.write(work)

    async def sweep(self, before: float) -> None:
        def work(tx: Tx) -> None:
            tx.execute("DELETE FROM activity WHERE at < ?", (before,))
            erased = "SELECT id FROM accounts WHERE disabled = 1 AND email LIKE ?"
            tx.execute(f"DELETE FROM activity WHERE account_id IN ({erased})", (f"%@{GONE}",))  # nosec B608 - constants

        await self._database.write(work)

    async def of_account(self, account_id: str) -> Sequence[Happening]:
        query = "SELECT what, at, success, network FROM activity WHERE account_id = ? ORDER BY at DESC, what LIMIT 200"
        rows = await self._database.read(lambda tx: tx.execute(query, (account_id,)).fetchall())
        return [Happening(what=row[0], at=row[1], success=bool(row[2]), network=row[3]) for row in rows]
