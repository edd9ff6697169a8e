"""Once-records in SQL: implements `people.ports.OnceStore`."""

from __future__ import annotations

from rempart.kernel.clock import Clock

from .sql import Database

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS once_records(kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " expires_at DOUBLE PRECISION NOT NULL, PRIMARY KEY(kind, key))",
    "CREATE INDEX IF NOT EXISTS once_records_by_end ON once_records(expires_at)",
)


class SqlOnce:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def put(self, kind: str, key: bytes, value: bytes, expires_at: float) -> bool:
        statement = (
            "INSERT INTO once_records(kind, key, value, expires_at) VALUES(?,?,?,?) ON CONFLICT(kind, key) DO UPDATE"
            " SET value = excluded.value, expires_at = excluded.expires_at WHERE once_records.expires_at <= ?"
            " RETURNING kind"
        )
        values = (kind, key, value, expires_at, self._clock.now())
        return await self._database.write(lambda tx: tx.execute(statement, values).fetchone() is not None)

    async def peek(self, kind: str, key: bytes) -> bytes | None:
        statement = "SELECT value FROM once_records WHERE kind = ? AND key = ? AND expires_at > ?"
        now = self._clock.now()
        rows = await self._database.look_up(statement, (kind, key, now))
        return rows[0][0] if rows else None

    async def take(self, kind: str, key: bytes) -> bytes | None:
        statement = "DELETE FROM once_records WHERE kind = ? AND key = ? AND expires_at > ? RETURNING value"
        now = self._clock.now()
        row = await self._database.write(lambda tx: tx.execute(statement, (kind, key, now)).fetchone())
        return row[0] if row else None

    async def swap(self, kind: str, key: bytes, old: bytes, new: bytes) -> bool:
        statement = "UPDATE once_records SET value = ? WHERE kind = ? AND key = ? AND value = ? AND expires_at > ?"
        values = (new, kind, key, old, self._clock.now())
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount == 1)

    async def sweep(self, before: float) -> int:
        statement = "DELETE FROM once_records WHERE expires_at <= ?"
        return await self._database.write(lambda tx: tx.execute(statement, (before,)).rowcount)
