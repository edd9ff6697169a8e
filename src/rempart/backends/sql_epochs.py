"""Which accounts' epochs grew lately, in SQL; after `sql_accounts.SCHEMA`."""

from __future__ import annotations

from collections.abc import Sequence

from .sql import Database

SCHEMA = ("CREATE INDEX IF NOT EXISTS accounts_by_change ON accounts(updated_at)",)


class SqlEpochs:
    """Implements `people.administration.epoch_feed.EpochStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed_since(self, at: float) -> Sequence[tuple[str, int, float]]:
        query = "SELECT id, epoch, updated_at FROM accounts WHERE updated_at >= ? AND epoch > 1"
        rows = await self._database.read(lambda tx: tx.execute(query, (at,)).fetchall())
        return [(row[0], row[1], row[2]) for row in rows]
