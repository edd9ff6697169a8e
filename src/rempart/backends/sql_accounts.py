"""Accounts and the outbox of their events in SQL. Trusted: who can write them can make themselves administrator.

Who can only read them gets e-mail addresses, argon2id hashes and sealed TOTP secrets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rempart.kernel.errors import Conflict
from rempart.kernel.event import Event
from rempart.kernel.principal import Role
from rempart.people.model import Account, Credentials

from .sql import Database, Tx, UniqueViolation, Value

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS accounts("
    " id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,"
    " payment_limit BIGINT CHECK(payment_limit >= 0), disabled BIGINT NOT NULL CHECK(disabled IN (0, 1)),"
    " version BIGINT NOT NULL, epoch BIGINT NOT NULL, created_at DOUBLE PRECISION NOT NULL,"
    " updated_at DOUBLE PRECISION NOT NULL, password_hash TEXT NOT NULL, totp BLOB,"
    " totp_step BIGINT NOT NULL DEFAULT 0)",
    "ALTER TABLE accounts ADD COLUMN passkeys BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE accounts ADD COLUMN short_password BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX IF NOT EXISTS administrators ON accounts(role) WHERE role = 'admin' AND disabled = 0",
    "CREATE TABLE IF NOT EXISTS outbox(id TEXT PRIMARY KEY, event BLOB NOT NULL)",
    "ALTER TABLE outbox ADD COLUMN left_at BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE outbox ADD COLUMN claimed_by TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN claimed_at DOUBLE PRECISION NOT NULL DEFAULT 0",
)
_ABANDONED = 30.0  # seconds
_FACTOR = "(totp IS NOT NULL OR passkeys > 0)"  # `sql_factors` counts the passkeys
_ACCOUNT = f"id, email, name, role, payment_limit, disabled, {_FACTOR}, version, epoch, created_at, updated_at"


class SqlAccounts:
    """Implements AccountStore and Outbox of `people.ports`. `instance` tells processes on one database apart."""

    def __init__(self, database: Database, *, instance: str = "") -> None:
        self._database, self._instance = database, instance

    async def add(self, account: Account, credentials: Credentials, event: Event) -> None:
        def work(tx: Tx) -> None:
            tx.execute(
                "INSERT INTO accounts(email, name, role, payment_limit, disabled, version, epoch, created_at,"
                " updated_at, id, password_hash, totp) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (*_columns(account), account.id, credentials.password_hash, credentials.totp),
            )
            leave(tx, event)

        await self._unique(work)

    async def get(self, account_id: str) -> Account | None:
        query = f"SELECT {_ACCOUNT} FROM accounts WHERE id = ?"  # nosec B608 - constants
        rows = await self._database.look_up(query, (account_id,))
        return _account(rows[0]) if rows else None

    async def by_email(self, email: str) -> tuple[Account, Credentials] | None:
        query = f"SELECT {_ACCOUNT}, password_hash, totp FROM accounts WHERE email = ?"  # nosec B608 - constants
        rows = await self._database.look_up(query, (email,))
        return (_account(rows[0][:-2]), Credentials(rows[0][-2], rows[0][-1])) if rows else None

    async def page(self, after: str, limit: int) -> Sequence[Account]:
        query = f"SELECT {_ACCOUNT} FROM accounts WHERE id > ? ORDER BY id LIMIT ?"  # nosec B608 - constants
        rows = await self._database.read(lambda tx: tx.execute(query, (after, limit)).fetchall())
        return [_account(row) for row in rows]

    async def replace(self, account: Account, event: Event) -> None:
        await self._unique(lambda tx: _replace(tx, account, event))

    async def set_credentials(
        self, account: Account, password_hash: str | None, totp: bytes | None, event: Event | None
    ) -> None:
        new_password = event is not None and password_hash is not None  # else the same, hashed again

        def work(tx: Tx) -> None:
            if event is not None:
                _replace(tx, account, event)
            changed = tx.execute(
                "UPDATE accounts SET password_hash = coalesce(?, password_hash), totp = coalesce(?, totp),"
                " totp_step = CASE WHEN ? = 1 THEN 0 ELSE totp_step END,"
                " short_password = CASE WHEN ? = 1 THEN 0 ELSE short_password END WHERE id = ? AND version = ?",
                (password_hash, totp, int(totp is not None), int(new_password), account.id, account.version),
            ).rowcount
            if not changed:
                raise _stale()

        await self._unique(work)

    async def use_step(self, account_id: str, step: int) -> bool:
        statement = "UPDATE accounts SET totp_step = ? WHERE id = ? AND totp_step < ?"
        return await self._database.write(lambda tx: tx.execute(statement, (step, account_id, step)).rowcount == 1)

    async def pending(self) -> Sequence[Event]:
        """Claims them for this instance: another one publishes them only when this one has been gone for long."""
        if not await self._database.read(lambda tx: tx.execute("SELECT id FROM outbox LIMIT 1").fetchall()):
            return []
        now = time.time()
        claim = "UPDATE outbox SET claimed_by = ?, claimed_at = ? WHERE claimed_by <> ? AND claimed_at < ?"
        query = "SELECT event FROM outbox WHERE claimed_by = ? ORDER BY left_at, id"

        def work(tx: Tx) -> list[Any]:
            tx.execute(claim, (self._instance, now, self._instance, now - _ABANDONED))
            return tx.execute(query, (self._instance,)).fetchall()

        rows = await self._database.write(work)
        return [msgspec.json.decode(row[0], type=Event) for row in rows]

    async def settle(self, event_id: str) -> None:
        await self._database.write(lambda tx: tx.execute("DELETE FROM outbox WHERE id = ?", (event_id,)).rowcount)

    async def _unique(self, work: Callable[[Tx], None]) -> None:
        try:
            await self._database.write(work)
        except UniqueViolation:
            raise Conflict("email_taken", "another account has this e-mail address", "use another one") from None


def leave(tx: Tx, event: Event) -> None:
    """Into the outbox, in the transaction of the change that it tells of."""
    values = (event.id, msgspec.json.encode(event), time.time_ns())
    tx.execute("INSERT INTO outbox(id, event, left_at) VALUES(?,?,?)", values)


def _replace(tx: Tx, account: Account, event: Event) -> None:
    before = tx.execute(
        "SELECT role, disabled FROM accounts WHERE id = ? AND version = ?", (account.id, account.version - 1)
    ).fetchone()
    if before is None:
        raise _stale()
    if before[0] == Role.ADMIN and not before[1] and (account.role != Role.ADMIN or account.disabled):
        others = "SELECT 1 FROM accounts WHERE role = 'admin' AND disabled = 0 AND id <> ? LIMIT 1"
        if tx.execute(others, (account.id,)).fetchone() is None:
            raise Conflict(
                "last_admin",
                "this is the last enabled administrator",
                "make another account an administrator first",
            )
    tx.execute(
        "UPDATE accounts SET email = ?, name = ?, role = ?, payment_limit = ?, disabled = ?, version = ?, epoch = ?,"
        " created_at = ?, updated_at = ? WHERE id = ?",
        (*_columns(account), account.id),
    )
    leave(tx, event)


def _columns(account: Account) -> tuple[Value, ...]:
    return (
        *(account.email, account.name, account.role, account.payment_limit, int(account.disabled)),
        *(account.version, account.epoch, account.created_at, account.updated_at),
    )


def account_in(tx: Tx, account_id: str) -> Account:
    """One that is there, within a transaction of another store."""
    query = f"SELECT {_ACCOUNT} FROM accounts WHERE id = ?"  # nosec B608 - constants
    return _account(tx.execute(query, (account_id,)).fetchone())


def _account(row: Any) -> Account:
    return Account(
        id=row[0],
        email=row[1],
        name=row[2],
        role=row[3],
        payment_limit=row[4],
        disabled=bool(row[5]),
        second_factor=bool(row[6]),
        version=row[7],
        epoch=row[8],
        created_at=row[9],
        updated_at=row[10],
    )


def _stale() -> Conflict:
    return Conflict("stale_version", "the account was changed by someone else meanwhile", "read it again, then retry")
