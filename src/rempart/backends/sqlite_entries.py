"""Registration entries in SQLite (WAL, full synchronous): one row per entry, its selectors as sorted text.

Trusted: who can write this file can give themselves any identity of the trust domain. It lies in identity's own
directory (0700), is opened with mode 0600 and checked when read.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rempart.kernel.errors import Integrity, RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import Entry, Selector

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    id TEXT PRIMARY KEY,
    spiffe_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    ttl INTEGER NOT NULL CHECK (ttl >= 0),
    jwt_ttl INTEGER NOT NULL CHECK (jwt_ttl >= 0),
    dns_names TEXT NOT NULL,
    federates_with TEXT NOT NULL,
    admin INTEGER NOT NULL CHECK (admin IN (0, 1)),
    downstream INTEGER NOT NULL CHECK (downstream IN (0, 1)),
    hint TEXT NOT NULL,
    expires_at REAL
) STRICT, WITHOUT ROWID
"""
_ADDED = (
    "ALTER TABLE entry ADD COLUMN jwt_ttl INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE entry ADD COLUMN federates_with TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE entry ADD COLUMN admin INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE entry ADD COLUMN downstream INTEGER NOT NULL DEFAULT 0",
)
"""For a file of the first release."""
_SELECT = (
    "SELECT id, spiffe_id, parent_id, selectors, ttl, jwt_ttl, dns_names, federates_with, admin, downstream, hint, "
    "expires_at FROM entry ORDER BY id"
)
_PUT = (
    "INSERT OR REPLACE INTO entry (id, spiffe_id, parent_id, selectors, ttl, jwt_ttl, dns_names, federates_with, "
    "admin, downstream, hint, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SqliteEntryStore:
    """An `EntryStore`. Raises Unavailable `entry_store_failed` when the file can't be opened."""

    def __init__(self, path: Path) -> None:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_SCHEMA)
            self._complete()
        except (OSError, sqlite3.Error) as error:
            raise _failed(error) from None

    def _complete(self) -> None:
        known = {row[1] for row in self._database.execute("PRAGMA table_info(entry)")}
        if "jwt_ttl" not in known:
            self._database.executescript(f"BEGIN; {'; '.join(_ADDED)}; COMMIT;")

    def load(self) -> list[Entry]:
        try:
            rows = self._database.execute(_SELECT).fetchall()
        except sqlite3.DatabaseError as error:
            raise Integrity("entry_store_broken", f"the entry store can't be read: {error}") from None
        try:
            return [_entry(row) for row in rows]
        except (RempartError, ValueError, TypeError, AttributeError):
            raise Integrity("entry_store_broken", "the entry store holds something that is no entry") from None

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany("DELETE FROM entry WHERE id = ?", [(id_,) for id_ in remove])
                self._database.executemany(_PUT, [_row(entry) for entry in put])
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _failed(error) from None

    def close(self) -> None:
        self._database.close()


def _failed(error: Exception) -> Unavailable:
    return Unavailable("entry_store_failed", f"the entry store can't be used: {error}", "see that its disk has room")


def _row(entry: Entry) -> tuple[object, ...]:
    return (
        entry.id,
        str(entry.spiffe_id),
        entry.parent_id,
        json.dumps(sorted(map(str, entry.selectors))),
        entry.ttl,
        entry.jwt_ttl,
        json.dumps(list(entry.dns_names)),
        json.dumps(list(entry.federates_with)),
        int(entry.admin),
        int(entry.downstream),
        entry.hint,
        entry.expires_at,
    )


def _entry(row: tuple[str, str, str, str, int, int, str, str, int, int, str, float | None]) -> Entry:
    selectors = frozenset(Selector.parse(text) for text in json.loads(row[3]))
    if not selectors:
        raise ValueError("an entry without selectors would match everybody")
    return Entry(
        id=row[0],
        spiffe_id=SpiffeId.parse(row[1]),
        parent_id=row[2],
        selectors=selectors,
        ttl=int(row[4]),
        jwt_ttl=int(row[5]),
        dns_names=tuple(json.loads(row[6])),
        federates_with=tuple(json.loads(row[7])),
        admin=bool(row[8]),
        downstream=bool(row[9]),
        hint=row[10],
        expires_at=row[11],
    )
