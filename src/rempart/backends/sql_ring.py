"""The sealed ring of signing keys in SQL: implements `people.ports.RingStore`."""

from __future__ import annotations

from .sql import Database

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS signing_rings(id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed BLOB NOT NULL)",
)
_ID = "people"


class SqlRing:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, newer_than: int) -> tuple[int, bytes] | None:
        query = "SELECT version, sealed FROM signing_rings WHERE id = ? AND version > ?"
        row = await self._database.read(lambda tx: tx.execute(query, (_ID, newer_than)).fetchone())
        return (row[0], row[1]) if row else None

    async def save(self, version: int, sealed: bytes) -> bool:
        first = "INSERT INTO signing_rings(id, version, sealed) VALUES(?,?,?) ON CONFLICT(id) DO NOTHING"
        later = "UPDATE signing_rings SET version = ?, sealed = ? WHERE id = ? AND version = ?"
        if version == 1:
            return await self._database.write(lambda tx: tx.execute(first, (_ID, 1, sealed)).rowcount == 1)
        values = (version, sealed, _ID, version - 1)
        return await self._database.write(lambda tx: tx.execute(later, values).rowcount == 1)
