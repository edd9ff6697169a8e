"""Consents in SQL: implements `people.authorize.ports.ConsentStore`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.people.authorize.model import Consent

from .sql import Database

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS consents(account_id TEXT NOT NULL, client_id TEXT NOT NULL, client_name TEXT NOT NULL,"
    " scopes TEXT NOT NULL, granted_at DOUBLE PRECISION NOT NULL, PRIMARY KEY(account_id, client_id))",
)
_COLUMNS = "account_id, client_id, client_name, scopes, granted_at"


class SqlConsents:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, account_id: str, client_id: str) -> Consent | None:
        query = f"SELECT {_COLUMNS} FROM consents WHERE account_id = ? AND client_id = ?"  # nosec B608 - constants
        row = await self._database.read(lambda tx: tx.execute(query, (account_id, client_id)).fetchone())
        return _consent(row) if row else None

    async def put(self, consent: Consent) -> None:
        statement = (
            f"INSERT INTO consents({_COLUMNS}) VALUES(?,?,?,?,?) ON CONFLICT(account_id, client_id) DO UPDATE SET"  # nosec B608 - constants
            " client_name = excluded.client_name, scopes = excluded.scopes, granted_at = excluded.granted_at"
        )
        values = (
            *(consent.account_id, consent.client_id, consent.client_name),
            *(" ".join(consent.scopes), consent.granted_at),
        )
        await self._database.write(lambda tx: tx.execute(statement, values).rowcount)

    async def of_account(self, account_id: str) -> Sequence[Consent]:
        query = f"SELECT {_COLUMNS} FROM consents WHERE account_id = ? ORDER BY client_id"  # nosec B608 - constants
        rows = await self._database.read(lambda tx: tx.execute(query, (account_id,)).fetchall())
        return [_consent(row) for row in rows]

    async def delete(self, account_id: str, client_id: str) -> bool:
        statement = "DELETE FROM consents WHERE account_id = ? AND client_id = ?"
        return await self._database.write(lambda tx: tx.execute(statement, (account_id, client_id)).rowcount == 1)


def _consent(row: Any) -> Consent:
    return Consent(
        account_id=row[0], client_id=row[1], client_name=row[2], scopes=tuple(row[3].split()), granted_at=row[4]
    )
