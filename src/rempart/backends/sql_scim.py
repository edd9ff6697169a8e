"""What provisioning clients said of accounts, in SQL; after `sql_accounts.SCHEMA`."""

from __future__ import annotations

import json
from typing import Any

from rempart.kernel.errors import Conflict
from rempart.people.administration.scim.user_document import ScimUser
from rempart.people.model import GONE

from .sql import Database, Tx, UniqueViolation

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS scim_users(account_id TEXT PRIMARY KEY, user_name TEXT NOT NULL,"
    " folded TEXT NOT NULL UNIQUE, external_id TEXT, said TEXT NOT NULL, at DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS accounts_by_role ON accounts(role, id)",
)
_COLUMNS = "account_id, user_name, external_id, said, at"
_ABANDONED = 60.0  # seconds after which a name whose account was never made is free


class SqlScim:
    """Implements `people.administration.scim.user_document.ScimStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, user: ScimUser) -> None:
        folded = user.user_name.casefold()
        said = json.dumps({"names": dict(user.names), "display_name": user.display_name, "marks": dict(user.marks)})

        def work(tx: Tx) -> None:
            tx.execute(
                "DELETE FROM scim_users WHERE folded = ? AND account_id <> ? AND at < ?"
                " AND NOT EXISTS(SELECT 1 FROM accounts a WHERE a.id = account_id)",
                (folded, user.account_id, user.at - _ABANDONED),
            )
            tx.execute(
                "DELETE FROM scim_users WHERE folded = ? AND account_id <> ? AND EXISTS(SELECT 1 FROM accounts a"
                " WHERE a.id = account_id AND a.disabled = 1 AND a.email LIKE ?)",
                (folded, user.account_id, f"%@{GONE}"),
            )
            tx.execute(
                "INSERT INTO scim_users(account_id, user_name, folded, external_id, said, at) VALUES(?,?,?,?,?,?)"
                " ON CONFLICT(account_id) DO UPDATE SET user_name = excluded.user_name, folded = excluded.folded,"
                " external_id = excluded.external_id, said = excluded.said, at = excluded.at",
                (user.account_id, user.user_name, folded, user.external_id, said, user.at),
            )

        try:
            await self._database.write(work)
        except UniqueViolation:
            raise Conflict("user_name_taken", "another user has this userName", "use another one") from None

    async def get(self, account_id: str) -> ScimUser | None:
        return await self._one("account_id", account_id)

    async def by_user_name(self, user_name: str) -> ScimUser | None:
        return await self._one("folded", user_name.casefold())

    async def between(self, after: str, last: str) -> dict[str, ScimUser]:
        query = f"SELECT {_COLUMNS} FROM scim_users WHERE account_id > ? AND account_id <= ?"  # nosec B608 - constants
        rows = await self._database.read(lambda tx: tx.execute(query, (after, last)).fetchall())
        return {row[0]: _user(row) for row in rows}

    async def remove(self, account_id: str) -> None:
        statement = "DELETE FROM scim_users WHERE account_id = ?"
        await self._database.write(lambda tx: tx.execute(statement, (account_id,)).rowcount)

    async def forget_erased(self) -> None:
        """Drop what was said of erased accounts."""
        statement = (
            "DELETE FROM scim_users WHERE EXISTS(SELECT 1 FROM accounts a"
            " WHERE a.id = account_id AND a.disabled = 1 AND a.email LIKE ?)"
        )
        await self._database.write(lambda tx: tx.execute(statement, (f"%@{GONE}",)).rowcount)

    async def members(self, role: str, limit: int) -> list[tuple[str, str]]:
        query = "SELECT id, email FROM accounts WHERE role = ? AND email NOT LIKE ? ORDER BY id LIMIT ?"
        values = (role, f"%@{GONE}", limit)
        rows = await self._database.read(lambda tx: tx.execute(query, values).fetchall())
        return [(row[0], row[1]) for row in rows]

    async def _one(self, column: str, value: str) -> ScimUser | None:
        query = f"SELECT {_COLUMNS} FROM scim_users WHERE {column} = ?"  # nosec B608 - two constants
        row = await self._database.read(lambda tx: tx.execute(query, (value,)).fetchone())
        return _user(row) if row else None


def _user(row: Any) -> ScimUser:
    said = json.loads(row[3])
    return ScimUser(
        account_id=row[0],
        user_name=row[1],
        external_id=row[2],
        names=said["names"],
        display_name=said["display_name"],
        marks=said["marks"],
        at=row[4],
    )
