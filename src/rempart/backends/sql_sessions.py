"""Sessions in SQL: implements `people.sessions.ports.SessionStore`."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.people.sessions.model import Stored

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS sessions("
    " token_hash BLOB PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_id TEXT NOT NULL,"
    " created_at DOUBLE PRECISION NOT NULL, seen_at DOUBLE PRECISION NOT NULL, ends_at DOUBLE PRECISION NOT NULL,"
    " sealed BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS sessions_of_account ON sessions(account_id, created_at)",
    "CREATE INDEX IF NOT EXISTS sessions_by_end ON sessions(ends_at)",
)
_COLUMNS = "token_hash, id, account_id, created_at, seen_at, ends_at, sealed"


class SqlSessions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: Stored, *, keep: int) -> Sequence[str]:
        beyond = (
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE account_id = ? AND ends_at > ?"
            " ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET ?) RETURNING id"
        )

        def work(tx: Tx) -> Sequence[str]:
            tx.execute(f"INSERT INTO sessions({_COLUMNS}) VALUES(?,?,?,?,?,?,?)", _values(session))  # nosec B608 - constants
            rows = tx.execute(beyond, (session.account_id, session.created_at, keep)).fetchall()
            return [row[0] for row in rows]

        return await self._database.write(work)

    async def find(self, token_hash: bytes, now: float) -> Stored | None:
        return await self._one("token_hash = ?", token_hash, now)

    async def by_id(self, session_id: str, now: float) -> Stored | None:
        return await self._one("id = ?", session_id, now)

    async def touch(self, token_hash: bytes, seen_at: float, ends_at: float) -> bool:
        statement = "UPDATE sessions SET seen_at = ?, ends_at = ? WHERE token_hash = ?"
        return await self._database.write(
            lambda tx: tx.execute(statement, (seen_at, ends_at, token_hash)).rowcount == 1
        )

    async def replace(self, token_hash: bytes, session: Stored) -> bool:
        statement = (
            "UPDATE sessions SET token_hash = ?, seen_at = ?, ends_at = ?, sealed = ? WHERE token_hash = ? AND id = ?"
        )
        values = (session.token_hash, session.seen_at, session.ends_at, session.sealed, token_hash, session.id)
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount == 1)

    async def end(self, session_id: str) -> bool:
        statement = "DELETE FROM sessions WHERE id = ?"
        return await self._database.write(lambda tx: tx.execute(statement, (session_id,)).rowcount == 1)

    async def of_account(self, account_id: str, now: float) -> Sequence[Stored]:
        query = (
            f"SELECT {_COLUMNS} FROM sessions WHERE account_id = ? AND ends_at > ?"  # nosec B608 - constants
            " ORDER BY created_at DESC, id DESC"
        )
        rows = await self._database.read(lambda tx: tx.execute(query, (account_id, now)).fetchall())
        return [Stored(*row) for row in rows]

    async def sweep(self, now: float) -> int:
        statement = "DELETE FROM sessions WHERE ends_at <= ?"
        return await self._database.write(lambda tx: tx.execute(statement, (now,)).rowcount)

    async def _one(self, condition: str, value: str | bytes, now: float) -> Stored | None:
        query = f"SELECT {_COLUMNS} FROM sessions WHERE {condition} AND ends_at > ?"  # nosec B608 - constants
        rows = await self._database.look_up(query, (value, now))
        return Stored(*rows[0]) if rows else None


def _values(session: Stored) -> tuple[bytes | str | float, ...]:
    return (
        *(session.token_hash, session.id, session.account_id, session.created_at),
        *(session.seen_at, session.ends_at, session.sealed),
    )
