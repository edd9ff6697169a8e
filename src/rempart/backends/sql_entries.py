"""Registration entries in SQL, for several servers: implements `workloads.ports.SharedEntryStore`.

Each row is sealed under a key that only the servers have. Who owns the database can take entries away or bring back
old ones, and read none, nor make one up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from rempart.crypto import aead
from rempart.kernel.errors import Integrity, RempartError
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import Entry, EntryChanges, Selector
from rempart.workloads.ports import EntriesMoved

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS workload_entries(id TEXT PRIMARY KEY, revision BIGINT NOT NULL, sealed BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS workload_entries_revision ON workload_entries(revision)",
    "CREATE TABLE IF NOT EXISTS workload_revision(id BIGINT PRIMARY KEY, revision BIGINT NOT NULL)",
    "INSERT INTO workload_revision(id, revision) VALUES(1, 0) ON CONFLICT(id) DO NOTHING",
)
_REVISION = "SELECT revision FROM workload_revision WHERE id = 1"
_PUT = (
    "INSERT INTO workload_entries(id, revision, sealed) VALUES(?,?,?) "
    "ON CONFLICT(id) DO UPDATE SET revision = excluded.revision, sealed = excluded.sealed"
)
_CONTEXT = b"rempart/workloads/entry/v1/"


class SqlEntries:
    """`seal_key`: 32 bytes, the same at every server."""

    def __init__(self, database: Database, seal_key: bytes) -> None:
        self._database, self._key = database, seal_key

    async def changes(self, revision: int) -> EntryChanges | None:
        def work(tx: Tx) -> tuple[int, list[Any], list[Any]]:
            now: int = tx.execute(_REVISION).fetchone()[0]
            if now == revision:
                return now, [], []
            since = revision if now > revision else 0  # the database was restored from a backup: all of it is news
            rows = tx.execute("SELECT id, sealed FROM workload_entries WHERE revision > ?", (since,)).fetchall()
            return now, rows, tx.execute("SELECT id FROM workload_entries").fetchall()

        now, rows, ids = await self._database.read(work)
        if now == revision:
            return None
        put = await asyncio.to_thread(lambda: tuple(self._open(row[0], bytes(row[1])) for row in rows))
        return EntryChanges(now, put, frozenset(row[0] for row in ids))

    async def replace(self, put: Sequence[Entry], remove: Sequence[str], revision: int) -> int:
        sealed = await asyncio.to_thread(lambda: [(entry.id, self._seal(entry)) for entry in put])

        def work(tx: Tx) -> int:
            if tx.execute(_REVISION).fetchone()[0] != revision:
                raise EntriesMoved
            for id_ in remove:
                tx.execute("DELETE FROM workload_entries WHERE id = ?", (id_,))
            for id_, blob in sealed:
                tx.execute(_PUT, (id_, revision + 1, blob))
            tx.execute("UPDATE workload_revision SET revision = ? WHERE id = 1", (revision + 1,))
            return revision + 1

        return await self._database.write(work)

    async def close(self) -> None:
        """The database is its owner's to close."""

    def _seal(self, entry: Entry) -> bytes:
        document = entry.document()
        del document["fixed"]
        return aead.seal(self._key, msgspec.json.encode(document), _CONTEXT + entry.id.encode())

    def _open(self, id_: str, sealed: bytes) -> Entry:
        try:
            row = msgspec.json.decode(aead.unseal(self._key, sealed, _CONTEXT + id_.encode()), type=_Row)
            selectors = frozenset(map(Selector.parse, row.selectors))
            if not selectors:
                raise ValueError("an entry without selectors would match everybody")
            return Entry(
                **{
                    **msgspec.structs.asdict(row),
                    "spiffe_id": SpiffeId.parse(row.spiffe_id),
                    "selectors": selectors,
                    "dns_names": tuple(row.dns_names),
                    "federates_with": tuple(row.federates_with),
                }
            )
        except (RempartError, ValueError, msgspec.DecodeError):
            raise Integrity(
                "entry_store_broken",
                f"the row {id_[:80]!r} is no entry that a server of this trust domain wrote",
                "see that every server has the same shared_key; else find out who changed the database",
            ) from None


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    spiffe_id: str
    parent_id: str
    selectors: list[str]
    ttl: int
    jwt_ttl: int
    dns_names: list[str]
    federates_with: list[str]
    admin: bool
    downstream: bool
    hint: str
    expires_at: float | None
