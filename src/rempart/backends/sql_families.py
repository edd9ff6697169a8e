"""Refresh families in SQL: implements `people.ports.RefreshStore`. Beside the accounts, whose epoch ends them.

Who can read them gets hashes of refresh tokens, and successors sealed under their predecessors: nothing to present.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.people.model import Dead, RefreshFamily, Repeated, Reused, Rotated, Rotation

from .sql import Database, Tx, Value
from .sql_accounts import account_in

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS refresh_families("
    " id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id), epoch BIGINT NOT NULL,"
    " amr TEXT NOT NULL, scope TEXT NOT NULL, network TEXT NOT NULL, user_agent TEXT NOT NULL,"
    " created_at DOUBLE PRECISION NOT NULL, last_used_at DOUBLE PRECISION NOT NULL,"
    " expires_at DOUBLE PRECISION NOT NULL, revoked_at DOUBLE PRECISION, revoked_for TEXT NOT NULL DEFAULT '',"
    " client_id TEXT NOT NULL, session_id TEXT NOT NULL, audience TEXT NOT NULL, acr TEXT NOT NULL,"
    " auth_time DOUBLE PRECISION NOT NULL, bound_to TEXT NOT NULL,"
    " current BLOB NOT NULL, previous BLOB, sealed BLOB)",
    "CREATE INDEX IF NOT EXISTS families_of_account ON refresh_families(account_id, created_at)",
    "CREATE INDEX IF NOT EXISTS families_by_network ON refresh_families(account_id, network)",
)
_FAMILY = (
    "id, account_id, epoch, amr, scope, network, user_agent,"
    " created_at, last_used_at, expires_at, revoked_at, revoked_for,"
    " client_id, session_id, audience, acr, auth_time, bound_to"
)
_MARKS = ",".join("?" * 19)
_REVOKE = "UPDATE refresh_families SET revoked_at = ?, revoked_for = ?, sealed = NULL WHERE"


class SqlFamilies:
    """After `sql_accounts.SCHEMA`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, family: RefreshFamily, token_hash: bytes, *, keep: int) -> None:
        living = (
            f"{_REVOKE} id IN (SELECT id FROM refresh_families WHERE account_id = ? AND revoked_at IS NULL"  # nosec B608 - constants
            " AND expires_at > ? ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET ?)"
        )
        old = (
            "DELETE FROM refresh_families WHERE id IN (SELECT id FROM refresh_families WHERE account_id = ?"
            " ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET ?)"
        )

        def work(tx: Tx) -> None:
            tx.execute(
                f"INSERT INTO refresh_families({_FAMILY}, current) VALUES({_MARKS})",  # nosec B608 - constants
                (
                    *(family.id, family.account_id, family.epoch, " ".join(family.amr), family.scope, family.network),
                    *(family.user_agent, family.created_at, family.last_used_at, family.expires_at),
                    *(family.revoked_at, family.revoked_for, family.client_id, family.session_id),
                    *(" ".join(family.audience), family.acr, family.auth_time, family.bound_to, token_hash),
                ),
            )
            tx.execute(living, (family.created_at, "too_many", family.account_id, family.created_at, keep))
            tx.execute(old, (family.account_id, 2 * keep))

        await self._database.write(work)

    async def rotate(
        self, family_id: str, presented: bytes, successor: bytes, sealed: bytes, *, now: float, grace: float
    ) -> Rotation:
        statement = (
            "UPDATE refresh_families SET previous = current, current = ?, sealed = ?, last_used_at = ?"  # nosec B608 - constants
            " WHERE id = ? AND current = ? AND revoked_at IS NULL AND expires_at > ?"
            " AND EXISTS(SELECT 1 FROM accounts a WHERE a.id = account_id AND a.disabled = 0"
            f" AND a.epoch = refresh_families.epoch) RETURNING {_FAMILY}"
        )

        def work(tx: Tx) -> Rotation:
            row = tx.execute(statement, (successor, sealed, now, family_id, presented, now)).fetchone()
            if not row:
                return _why_not(tx, family_id, presented, now, grace)
            family = _family(row)
            return Rotated(family, account_in(tx, family.account_id))

        return await self._database.write(work)

    async def revoke(self, family_id: str, why: str, now: float) -> RefreshFamily | None:
        return await self._database.write(lambda tx: _revoke(tx, family_id, why, now))

    async def revoke_all(
        self, account_id: str, why: str, now: float, *, client_id: str | None = None, session_id: str | None = None
    ) -> int:
        statement = f"{_REVOKE} account_id = ? AND revoked_at IS NULL AND expires_at > ?"
        values: list[Value] = [now, why, account_id, now]
        for column, wanted in (("client_id", client_id), ("session_id", session_id)):
            if wanted is not None:
                statement += f" AND {column} = ?"
                values.append(wanted)
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount)

    async def find(self, family_id: str) -> tuple[RefreshFamily, bytes] | None:
        query = f"SELECT {_FAMILY}, current FROM refresh_families WHERE id = ?"  # nosec B608 - constants
        rows = await self._database.look_up(query, (family_id,))
        return (_family(rows[0][:-1]), rows[0][-1]) if rows else None

    async def of_account(self, account_id: str) -> Sequence[RefreshFamily]:
        query = f"SELECT {_FAMILY} FROM refresh_families WHERE account_id = ? ORDER BY created_at DESC, id DESC"  # nosec B608 - constants
        rows = await self._database.read(lambda tx: tx.execute(query, (account_id,)).fetchall())
        return [_family(row) for row in rows]

    async def knows_network(self, account_id: str, network: str) -> bool:
        query = "SELECT 1 FROM refresh_families WHERE account_id = ? AND network = ? LIMIT 1"
        return bool(await self._database.look_up(query, (account_id, network)))

    async def sweep(self, before: float) -> int:
        statement = "DELETE FROM refresh_families WHERE expires_at < ? OR revoked_at < ?"
        return await self._database.write(lambda tx: tx.execute(statement, (before, before)).rowcount)


def _why_not(tx: Tx, family_id: str, presented: bytes, now: float, grace: float) -> Rotation:
    """The token is authentic and was not rotated: tell a lost answer from a copy in other hands."""
    row = tx.execute(
        f"SELECT {_FAMILY}, current, previous, sealed FROM refresh_families WHERE id = ?",  # nosec B608 - constants
        (family_id,),
    ).fetchone()
    if row is None:
        return Dead("unknown")
    family, (current, previous, sealed) = _family(row[:-3]), row[-3:]
    if family.revoked_at is not None:
        return Dead(f"revoked: {family.revoked_for}", family)
    if family.expires_at <= now:
        return Dead("expired", family)
    if current == presented:
        return Dead("the account was disabled or changed", family)
    if previous == presented and sealed is not None and now - family.last_used_at <= grace:
        return Repeated(family, sealed)
    revoked = _revoke(tx, family_id, "reuse", now)
    return Reused(revoked or family)


def _revoke(tx: Tx, family_id: str, why: str, now: float) -> RefreshFamily | None:
    statement = f"{_REVOKE} id = ? AND revoked_at IS NULL RETURNING {_FAMILY}"
    row = tx.execute(statement, (now, why, family_id)).fetchone()
    return _family(row) if row else None


def _family(row: Any) -> RefreshFamily:
    return RefreshFamily(
        id=row[0],
        account_id=row[1],
        epoch=row[2],
        amr=tuple(row[3].split()),
        scope=row[4],
        network=row[5],
        user_agent=row[6],
        created_at=row[7],
        last_used_at=row[8],
        expires_at=row[9],
        revoked_at=row[10],
        revoked_for=row[11],
        client_id=row[12],
        session_id=row[13],
        audience=tuple(row[14].split()),
        acr=row[15],
        auth_time=row[16],
        bound_to=row[17],
    )
