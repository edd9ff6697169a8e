"""Which accounts' epochs grew lately, which sessions ended and which clients are gone, in SQL; after `sql_accounts`,
`sql_families` and `sql_clients`.

Families of refresh tokens tell by themselves that they were revoked. What leaves no row behind (sessions, wherever they
are kept, and single access tokens) is written down here.
"""

from __future__ import annotations

from collections.abc import Sequence

from .sql import Database, Tx

SCHEMA = (
    "CREATE INDEX IF NOT EXISTS accounts_by_change ON accounts(updated_at)",
    "CREATE INDEX IF NOT EXISTS families_by_revocation ON refresh_families(revoked_at)",
    "CREATE TABLE IF NOT EXISTS ended_sessions(id TEXT PRIMARY KEY, account_id TEXT NOT NULL,"
    " ended_at DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ended_sessions_by_time ON ended_sessions(ended_at)",
)
_ENDED = (
    "SELECT account_id, id, revoked_at AS at FROM refresh_families WHERE revoked_at >= ?"
    " UNION ALL SELECT account_id, id, ended_at AS at FROM ended_sessions WHERE ended_at >= ? ORDER BY at"
)


class SqlEpochs:
    """Implements `people.administration.epoch_feed.EpochStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed_since(self, at: float) -> Sequence[tuple[str, int, float]]:
        query = "SELECT id, epoch, updated_at FROM accounts WHERE updated_at >= ? AND epoch > 1"
        rows = await self._database.read(lambda tx: tx.execute(query, (at,)).fetchall())
        return [(row[0], row[1], row[2]) for row in rows]

    async def ended_since(self, at: float) -> Sequence[tuple[str, str, float]]:
        rows = await self._database.read(lambda tx: tx.execute(_ENDED, (at, at)).fetchall())
        return [(row[0], row[1], row[2]) for row in rows]

    async def deleted_since(self, at: float) -> Sequence[tuple[str, float]]:
        query = "SELECT id, deleted_at FROM deleted_clients WHERE deleted_at >= ? ORDER BY deleted_at"
        rows = await self._database.read(lambda tx: tx.execute(query, (at,)).fetchall())
        return [(row[0], row[1]) for row in rows]

    async def end(self, id: str, subject: str, now: float) -> None:
        """Write down that this session or token of `subject` is over; the first time counts."""
        statement = "INSERT INTO ended_sessions(id, account_id, ended_at) VALUES(?,?,?) ON CONFLICT(id) DO NOTHING"
        await self._database.write(lambda tx: tx.execute(statement, (id, subject, now)).rowcount)

    async def sweep(self, before: float) -> int:
        def work(tx: Tx) -> int:
            tx.execute("DELETE FROM deleted_clients WHERE deleted_at < ?", (before,))
            return tx.execute("DELETE FROM ended_sessions WHERE ended_at < ?", (before,)).rowcount

        return await self._database.write(work)
