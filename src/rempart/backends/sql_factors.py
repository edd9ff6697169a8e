"""Passkeys and backup codes in SQL, beside the accounts: implements `people.factors.ports.FactorStore`.

Who can write here can sign in as anybody; who can only read gets public keys and keyed hashes.
"""

from __future__ import annotations

from typing import Any

from rempart.kernel.errors import Conflict, NotFound
from rempart.kernel.event import Event
from rempart.people.factors.model import Change, Held, Passkey
from rempart.people.model import GONE, Account

from .sql import Database, Tx, UniqueViolation
from .sql_accounts import leave

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS passkeys("
    " id TEXT PRIMARY KEY, account_id TEXT NOT NULL, credential_id BLOB NOT NULL UNIQUE, public_key BLOB NOT NULL,"
    " counter BIGINT NOT NULL, synced BIGINT NOT NULL, name TEXT NOT NULL, transports TEXT NOT NULL,"
    " created_at DOUBLE PRECISION NOT NULL, last_used_at DOUBLE PRECISION)",
    "CREATE INDEX IF NOT EXISTS passkeys_of_account ON passkeys(account_id, created_at)",
    "CREATE TABLE IF NOT EXISTS backup_codes("
    " account_id TEXT NOT NULL, code_hash BLOB NOT NULL, PRIMARY KEY(account_id, code_hash))",
)
_PASSKEY = "id, account_id, credential_id, public_key, counter, synced, name, transports, created_at, last_used_at"


class SqlFactors:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def held(self, account_id: str) -> Held:
        def work(tx: Tx) -> Held:
            keys = f"SELECT {_PASSKEY} FROM passkeys WHERE account_id = ? ORDER BY created_at, id"  # nosec B608 - constants
            left = tx.execute("SELECT count(*) FROM backup_codes WHERE account_id = ?", (account_id,)).fetchone()[0]
            short = tx.execute("SELECT short_password FROM accounts WHERE id = ?", (account_id,)).fetchone()
            rows = tx.execute(keys, (account_id,)).fetchall()
            return Held(passkeys=tuple(map(_passkey, rows)), backup_codes=left, short_password=bool(short and short[0]))

        return await self._database.read(work)

    async def by_credential(self, credential_id: bytes) -> Passkey | None:
        query = f"SELECT {_PASSKEY} FROM passkeys WHERE credential_id = ?"  # nosec B608 - constants
        row = await self._database.read(lambda tx: tx.execute(query, (credential_id,)).fetchone())
        return _passkey(row) if row else None

    async def change(self, account: Account, change: Change, event: Event) -> None:
        def work(tx: Tx) -> None:
            written = tx.execute(
                "UPDATE accounts SET version = ?, epoch = ?, updated_at = ?, password_hash = coalesce(?, password_hash)"
                " WHERE id = ? AND version = ?",
                (
                    *(account.version, account.epoch, account.updated_at, change.password_hash),
                    *(account.id, account.version - 1),
                ),
            ).rowcount
            if not written:
                raise Conflict("stale_version", "the account was changed by someone else meanwhile", "try again")
            _totp(tx, account.id, change)
            _passkeys(tx, account.id, change)
            if change.backup_codes is not None:
                tx.execute("DELETE FROM backup_codes WHERE account_id = ?", (account.id,))
                for code_hash in change.backup_codes:
                    tx.execute("INSERT INTO backup_codes(account_id, code_hash) VALUES(?, ?)", (account.id, code_hash))
            if change.short_password is not None:
                tx.execute(
                    "UPDATE accounts SET short_password = ? WHERE id = ?", (int(change.short_password), account.id)
                )
            leave(tx, event)

        try:
            await self._database.write(work)
        except UniqueViolation:
            raise Conflict("passkey_known", "this passkey is registered already", "use another one") from None

    async def forget_erased(self) -> None:
        """Drop what erased accounts had."""
        erased = "SELECT id FROM accounts WHERE disabled = 1 AND email LIKE ?"

        def work(tx: Tx) -> None:
            for table in ("passkeys", "backup_codes"):
                tx.execute(f"DELETE FROM {table} WHERE account_id IN ({erased})", (f"%@{GONE}",))  # nosec B608 - constants
            tx.execute("UPDATE accounts SET totp = NULL WHERE totp IS NOT NULL AND email LIKE ?", (f"%@{GONE}",))

        await self._database.write(work)

    async def rename_passkey(self, account_id: str, passkey_id: str, name: str) -> bool:
        statement = "UPDATE passkeys SET name = ? WHERE id = ? AND account_id = ?"
        values = (name, passkey_id, account_id)
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount == 1)

    async def advance(self, passkey_id: str, counter: int, now: float) -> bool:
        statement = (
            "UPDATE passkeys SET counter = ?, last_used_at = ? WHERE id = ?"
            " AND (counter < ? OR (counter = 0 AND ? = 0))"
        )
        values = (counter, now, passkey_id, counter, counter)
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount == 1)

    async def spend_backup_code(self, account_id: str, code_hash: bytes) -> bool:
        statement = "DELETE FROM backup_codes WHERE account_id = ? AND code_hash = ?"
        return await self._database.write(lambda tx: tx.execute(statement, (account_id, code_hash)).rowcount == 1)


def _totp(tx: Tx, account_id: str, change: Change) -> None:
    if change.remove_totp:
        tx.execute("UPDATE accounts SET totp = NULL, totp_step = 0 WHERE id = ?", (account_id,))
    if change.totp is not None:
        tx.execute("UPDATE accounts SET totp = ?, totp_step = ? WHERE id = ?", (*change.totp, account_id))


def _passkeys(tx: Tx, account_id: str, change: Change) -> None:
    if change.remove_all_passkeys:
        tx.execute("DELETE FROM passkeys WHERE account_id = ?", (account_id,))
    if change.remove_passkey is not None:
        gone = tx.execute("DELETE FROM passkeys WHERE id = ? AND account_id = ?", (change.remove_passkey, account_id))
        if not gone.rowcount:
            raise NotFound("no_such_passkey", "there is no such passkey", "read the list again")
    if change.add_passkey is not None:
        new = change.add_passkey
        tx.execute(
            f"INSERT INTO passkeys({_PASSKEY}) VALUES(?,?,?,?,?,?,?,?,?,?)",  # nosec B608 - constants
            (
                *(new.id, new.account_id, new.credential_id, new.public_key, new.counter, int(new.synced), new.name),
                *(" ".join(new.transports), new.created_at, new.last_used_at),
            ),
        )
    tx.execute(
        "UPDATE accounts SET passkeys = (SELECT count(*) FROM passkeys p WHERE p.account_id = ?) WHERE id = ?",
        (account_id, account_id),
    )


def _passkey(row: Any) -> Passkey:
    return Passkey(
        id=row[0],
        account_id=row[1],
        credential_id=bytes(row[2]),
        public_key=bytes(row[3]),
        counter=row[4],
        synced=bool(row[5]),
        name=row[6],
        transports=tuple(row[7].split()),
        created_at=row[8],
        last_used_at=row[9],
    )
