"""`audit.personal.PersonKeys` in SQLite: each key sealed under the sequencer's own.

Untrusted but for deletion: who owns the file and not the sequencer's key can delete keys, and can bring back a
destroyed one from a copy of the file made before. Back it up no longer than an erasure may take.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

from rempart.crypto.aead import seal, unseal
from rempart.kernel.errors import Unavailable

_CONTEXT = b"rempart/audit/person-key/"
_REMEMBERED = 16_384
_SCHEMA = "CREATE TABLE IF NOT EXISTS person (id TEXT PRIMARY KEY, sealed BLOB) WITHOUT ROWID"


class SqlitePersonKeys:
    """Any thread. Every method raises Unavailable `person_keys_unavailable`."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._key = key
        self._lock = threading.RLock()
        self._known: dict[str, tuple[bool, bytes | None]] = {}
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # DELETE and not WAL: a destroyed key must not live on in a journal; secure_delete overwrites it.
            for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(_SCHEMA)
            path.chmod(0o600)
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    @property
    def destroyed(self) -> int:
        try:
            with self._lock:
                return int(self._db.execute("SELECT count(*) FROM person WHERE sealed IS NULL").fetchone()[0])
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    def provide(self, person: str) -> bytes | None:
        with self._lock:
            known, key = self._look_up(person)
            if not known:
                key = os.urandom(32)
                sealed = seal(self._key, key, _CONTEXT + person.encode())
                self._run("INSERT INTO person VALUES (?, ?)", (person, sealed))
                self._remember(person, (True, key))
            return key

    def find(self, person: str) -> bytes | None:
        with self._lock:
            return self._look_up(person)[1]

    def destroy(self, person: str) -> None:
        with self._lock:
            self._run("INSERT INTO person VALUES (?, NULL) ON CONFLICT (id) DO UPDATE SET sealed = NULL", (person,))
            self._remember(person, (True, None))

    def commit(self) -> None:
        """What was not committed when it fails is forgotten: the next call makes it again."""
        with self._lock:
            if self._db.in_transaction:
                try:
                    self._db.execute("COMMIT")
                except sqlite3.Error as error:
                    self._forget()
                    raise _unavailable(error) from None

    def close(self) -> None:
        self._db.close()

    def _look_up(self, person: str) -> tuple[bool, bytes | None]:
        if (found := self._known.get(person)) is not None:
            return found
        try:
            row = self._db.execute("SELECT sealed FROM person WHERE id = ?", (person,)).fetchone()
        except sqlite3.Error as error:
            raise _unavailable(error) from None
        key = unseal(self._key, row[0], _CONTEXT + person.encode()) if row and row[0] is not None else None
        return self._remember(person, (row is not None, key))

    def _remember(self, person: str, found: tuple[bool, bytes | None]) -> tuple[bool, bytes | None]:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[person] = found
        return found

    def _forget(self) -> None:
        self._known.clear()
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def _run(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            self._forget()
            raise _unavailable(error) from None


def _unavailable(error: sqlite3.Error) -> Unavailable:
    return Unavailable(
        "person_keys_unavailable", f"the keys of persons can't be used: {error}", "see whether the disk is full"
    )
