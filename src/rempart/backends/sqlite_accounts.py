"""Accounts and refresh families in one SQLite file. Trusted: who can write it can make themselves administrator.

Who can only read it gets e-mail addresses, argon2id hashes, sealed TOTP secrets and hashes of refresh tokens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rempart.kernel.errors import Conflict
from rempart.kernel.event import Event
from rempart.kernel.principal import Role
from rempart.people.model import Account, Credentials, Dead, RefreshFamily, Repeated, Reused, Rotated, Rotation

from .sqlite_thread import SqliteThread

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts(
  id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
  payment_limit INTEGER CHECK(payment_limit >= 0), disabled INTEGER NOT NULL CHECK(disabled IN (0, 1)),
  version INTEGER NOT NULL, epoch INTEGER NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
  password_hash TEXT NOT NULL, totp BLOB, totp_step INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX IF NOT EXISTS administrators ON accounts(role) WHERE role = 'admin' AND disabled = 0;
CREATE TABLE IF NOT EXISTS outbox(id TEXT PRIMARY KEY, event BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS refresh_families(
  id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts(id), epoch INTEGER NOT NULL, amr TEXT NOT NULL,
  scope TEXT NOT NULL, network TEXT NOT NULL, user_agent TEXT NOT NULL, created_at REAL NOT NULL,
  last_used_at REAL NOT NULL, expires_at REAL NOT NULL, revoked_at REAL, revoked_for TEXT NOT NULL DEFAULT '',
  current BLOB NOT NULL, previous BLOB, sealed BLOB) STRICT;
CREATE INDEX IF NOT EXISTS families_of_account ON refresh_families(account_id, created_at);
CREATE INDEX IF NOT EXISTS families_by_network ON refresh_families(account_id, network);
"""
_ACCOUNT = "id, email, name, role, payment_limit, disabled, totp IS NOT NULL, version, epoch, created_at, updated_at"
_WHEN = "created_at, last_used_at, expires_at, revoked_at, revoked_for"
_FAMILY = f"id, account_id, epoch, amr, scope, network, user_agent, {_WHEN}"


class SqliteAccounts:
    """Implements AccountStore, Outbox and RefreshStore of `people.ports`; one file, since their rules span both."""

    def __init__(self, path: Path) -> None:
        self._writer = SqliteThread(path, _SCHEMA)
        self._reader = SqliteThread(path, read_only=True)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    # AccountStore

    async def add(self, account: Account, credentials: Credentials, event: Event) -> None:
        def work(db: sqlite3.Connection) -> None:
            values = (*_columns(account), credentials.password_hash, credentials.totp)
            try:
                db.execute(
                    "INSERT INTO accounts(id, email, name, role, payment_limit, disabled, version, epoch, created_at,"
                    " updated_at, password_hash, totp) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                    values,
                )
            except sqlite3.IntegrityError:
                raise _email_taken() from None
            _leave(db, event)

        await self._writer.run(work)

    async def get(self, account_id: str) -> Account | None:
        row = await self._one(f"SELECT {_ACCOUNT} FROM accounts WHERE id = ?", account_id)  # nosec B608 - constants
        return _account(row) if row else None

    async def by_email(self, email: str) -> tuple[Account, Credentials] | None:
        row = await self._one(
            f"SELECT {_ACCOUNT}, password_hash, totp FROM accounts WHERE email = ?",  # nosec B608 - constants
            email,
        )
        return (_account(row[:-2]), Credentials(row[-2], row[-1])) if row else None

    async def page(self, after: str, limit: int) -> Sequence[Account]:
        query = f"SELECT {_ACCOUNT} FROM accounts WHERE id > ? ORDER BY id LIMIT ?"  # nosec B608 - constants
        return await self._reader.run(lambda db: [_account(row) for row in db.execute(query, (after, limit))])

    async def replace(self, account: Account, event: Event) -> None:
        await self._writer.run(lambda db: _replace(db, account, event))

    async def set_credentials(
        self, account: Account, password_hash: str | None, totp: bytes | None, event: Event | None
    ) -> None:
        def work(db: sqlite3.Connection) -> None:
            if event is not None:
                _replace(db, account, event)
            changed = db.execute(
                "UPDATE accounts SET password_hash = coalesce(?, password_hash), totp = coalesce(?, totp),"
                " totp_step = CASE WHEN ? IS NULL THEN totp_step ELSE 0 END WHERE id = ? AND version = ?",
                (password_hash, totp, totp, account.id, account.version),
            ).rowcount
            if not changed:
                raise _stale()

        await self._writer.run(work)

    async def use_step(self, account_id: str, step: int) -> bool:
        statement = "UPDATE accounts SET totp_step = ? WHERE id = ? AND totp_step < ?"
        return await self._writer.run(lambda db: db.execute(statement, (step, account_id, step)).rowcount == 1)

    # Outbox

    async def pending(self) -> Sequence[Event]:
        rows = await self._all("SELECT event FROM outbox ORDER BY rowid")
        return [msgspec.json.decode(row[0], type=Event) for row in rows]

    async def settle(self, event_id: str) -> None:
        await self._writer.run(lambda db: db.execute("DELETE FROM outbox WHERE id = ?", (event_id,)).rowcount)

    # RefreshStore

    async def open(self, family: RefreshFamily, token_hash: bytes, *, keep: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(
                f"INSERT INTO refresh_families({_FAMILY}, current) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",  # nosec B608 - constants
                (
                    *(family.id, family.account_id, family.epoch, " ".join(family.amr), family.scope, family.network),
                    *(family.user_agent, family.created_at, family.last_used_at, family.expires_at),
                    *(family.revoked_at, family.revoked_for, token_hash),
                ),
            )
            db.execute(
                "UPDATE refresh_families SET revoked_at = ?1, revoked_for = 'too_many', sealed = NULL WHERE id IN ("
                " SELECT id FROM refresh_families WHERE account_id = ?2 AND revoked_at IS NULL AND expires_at > ?1"
                " ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?3)",
                (family.created_at, family.account_id, keep),
            )
            db.execute(
                "DELETE FROM refresh_families WHERE id IN (SELECT id FROM refresh_families WHERE account_id = ?"
                " ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)",
                (family.account_id, 2 * keep),
            )

        await self._writer.run(work)

    async def rotate(
        self, family_id: str, presented: bytes, successor: bytes, sealed: bytes, *, now: float, grace: float
    ) -> Rotation:
        def work(db: sqlite3.Connection) -> Rotation:
            rows = db.execute(
                f"UPDATE refresh_families SET previous = current, current = :successor, sealed = :sealed,"  # nosec B608 - constants
                " last_used_at = :now WHERE id = :family AND current = :presented AND revoked_at IS NULL"
                " AND expires_at > :now AND EXISTS(SELECT 1 FROM accounts a WHERE a.id = account_id AND a.disabled = 0"
                f" AND a.epoch = refresh_families.epoch) RETURNING {_FAMILY}",
                {
                    "successor": successor,
                    "sealed": sealed,
                    "now": now,
                    "family": family_id,
                    "presented": presented,
                },
            ).fetchall()
            return Rotated(_family(rows[0])) if rows else _why_not(db, family_id, presented, now, grace)

        return await self._writer.run(work)

    async def revoke(self, family_id: str, why: str, now: float) -> RefreshFamily | None:
        return await self._writer.run(lambda db: _revoke(db, family_id, why, now))

    async def revoke_all(self, account_id: str, why: str, now: float) -> int:
        statement = (
            "UPDATE refresh_families SET revoked_at = ?, revoked_for = ?, sealed = NULL"
            " WHERE account_id = ? AND revoked_at IS NULL AND expires_at > ?"
        )
        return await self._writer.run(lambda db: db.execute(statement, (now, why, account_id, now)).rowcount)

    async def of_account(self, account_id: str) -> Sequence[RefreshFamily]:
        query = f"SELECT {_FAMILY} FROM refresh_families WHERE account_id = ? ORDER BY created_at DESC, id DESC"  # nosec B608 - constants
        return [_family(row) for row in await self._all(query, account_id)]

    async def knows_network(self, account_id: str, network: str) -> bool:
        query = "SELECT 1 FROM refresh_families WHERE account_id = ? AND network = ? LIMIT 1"
        return await self._one(query, account_id, network) is not None

    async def sweep(self, before: float) -> int:
        statement = "DELETE FROM refresh_families WHERE expires_at < ?1 OR revoked_at < ?1"
        return await self._writer.run(lambda db: db.execute(statement, (before,)).rowcount)

    async def _one(self, query: str, *values: object) -> Any:
        return await self._reader.run(lambda db: db.execute(query, values).fetchone())

    async def _all(self, query: str, *values: object) -> list[Any]:
        return await self._reader.run(lambda db: db.execute(query, values).fetchall())


def _why_not(db: sqlite3.Connection, family_id: str, presented: bytes, now: float, grace: float) -> Rotation:
    """The token is authentic and was not rotated: tell a lost answer from a copy in other hands."""
    row = db.execute(
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
    revoked = _revoke(db, family_id, "reuse", now)
    return Reused(revoked or family)


def _revoke(db: sqlite3.Connection, family_id: str, why: str, now: float) -> RefreshFamily | None:
    rows = db.execute(
        "UPDATE refresh_families SET revoked_at = ?, revoked_for = ?, sealed = NULL"  # nosec B608 - constants
        f" WHERE id = ? AND revoked_at IS NULL RETURNING {_FAMILY}",
        (now, why, family_id),
    ).fetchall()
    return _family(rows[0]) if rows else None


def _replace(db: sqlite3.Connection, account: Account, event: Event) -> None:
    before = db.execute(
        "SELECT role = 'admin' AND disabled = 0 FROM accounts WHERE id = ? AND version = ?",
        (account.id, account.version - 1),
    ).fetchone()
    if before is None:
        raise _stale()
    if before[0] and (account.role != Role.ADMIN or account.disabled):
        others = "SELECT 1 FROM accounts WHERE role = 'admin' AND disabled = 0 AND id <> ? LIMIT 1"
        if db.execute(others, (account.id,)).fetchone() is None:
            raise Conflict(
                "last_admin",
                "this is the last enabled administrator",
                "make another account an administrator first",
            )
    try:
        db.execute(
            "UPDATE accounts SET email = ?2, name = ?3, role = ?4, payment_limit = ?5, disabled = ?6, version = ?7,"
            " epoch = ?8, created_at = ?9, updated_at = ?10 WHERE id = ?1",
            _columns(account),
        )
    except sqlite3.IntegrityError:
        raise _email_taken() from None
    _leave(db, event)


def _leave(db: sqlite3.Connection, event: Event) -> None:
    db.execute("INSERT INTO outbox(id, event) VALUES(?, ?)", (event.id, msgspec.json.encode(event)))


def _columns(account: Account) -> tuple[Any, ...]:
    return (
        *(account.id, account.email, account.name, account.role, account.payment_limit, int(account.disabled)),
        *(account.version, account.epoch, account.created_at, account.updated_at),
    )


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
    )


def _email_taken() -> Conflict:
    return Conflict("email_taken", "another account has this e-mail address", "use another one")


def _stale() -> Conflict:
    return Conflict("stale_version", "the account was changed by someone else meanwhile", "read it again, then retry")
