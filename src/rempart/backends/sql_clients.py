"""OAuth clients in SQL: implements `people.oauth.ports.ClientStore`. Trusted: who can write it can be any client.

Who can only read it gets keyed hashes of secrets and public keys: nothing to authenticate with.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rempart.kernel.errors import Conflict
from rempart.people.oauth.clients import after
from rempart.people.oauth.model import Client

from .sql import Database, Tx, UniqueViolation

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS oauth_clients(id TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL,"
    " grants TEXT NOT NULL, document BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS oauth_clients_by_spiffe_id ON oauth_clients(spiffe_id)",
    "CREATE TABLE IF NOT EXISTS deleted_clients(id TEXT PRIMARY KEY, deleted_at DOUBLE PRECISION NOT NULL)",
)


class SqlClients:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, client: Client) -> Client:
        grants = f" {' '.join(client.grants)} "

        def work(tx: Tx) -> Client:
            gone = tx.execute("SELECT deleted_at FROM deleted_clients WHERE id = ?", (client.id,)).fetchone()
            kept = (
                msgspec.structs.replace(client, created_at=max(client.created_at, after(gone[0]))) if gone else client
            )
            values = (kept.id, kept.spiffe_id, grants, _document(kept))
            tx.execute("INSERT INTO oauth_clients(id, spiffe_id, grants, document) VALUES(?,?,?,?)", values)
            return kept

        try:
            return await self._database.write(work)
        except UniqueViolation:
            raise Conflict(
                "client_exists", "there is a client of this id", "delete it first, or choose another"
            ) from None

    async def get(self, client_id: str) -> Client | None:
        statement = "SELECT document FROM oauth_clients WHERE id = ?"
        rows = await self._database.look_up(statement, (client_id,))
        return _client(rows[0][0]) if rows else None

    async def ended_at(self, client_id: str) -> float:
        statement = "SELECT deleted_at FROM deleted_clients WHERE id = ?"
        rows = await self._database.look_up(statement, (client_id,))
        return float(rows[0][0]) if rows else 0.0

    async def by_spiffe_id(self, spiffe_id: str) -> Client | None:
        statement = "SELECT document FROM oauth_clients WHERE spiffe_id = ? LIMIT 2"
        rows = await self._database.look_up(statement, (spiffe_id,))
        return _client(rows[0][0]) if len(rows) == 1 and spiffe_id else None

    async def any_with(self, grant: str) -> bool:
        statement = "SELECT 1 FROM oauth_clients WHERE grants LIKE ? LIMIT 1"
        values = (f"% {grant} %",)
        return await self._database.read(lambda tx: tx.execute(statement, values).fetchone()) is not None

    async def page(self, after: str, limit: int) -> Sequence[Client]:
        statement = "SELECT document FROM oauth_clients WHERE id > ? ORDER BY id LIMIT ?"
        rows = await self._database.read(lambda tx: tx.execute(statement, (after, limit)).fetchall())
        return [_client(row[0]) for row in rows]

    async def replace(self, old: Client, new: Client) -> bool:
        read = "SELECT document FROM oauth_clients WHERE id = ?"
        statement = "UPDATE oauth_clients SET spiffe_id = ?, grants = ?, document = ? WHERE id = ?"
        values = (new.spiffe_id, f" {' '.join(new.grants)} ", _document(new), new.id)

        def work(tx: Tx) -> bool:
            row = tx.execute(read, (old.id,)).fetchone()
            return row is not None and _client(row[0]) == old and tx.execute(statement, values).rowcount == 1

        return await self._database.write(work)

    async def delete(self, client_id: str, now: float) -> bool:
        statement = (
            "INSERT INTO deleted_clients(id, deleted_at) VALUES(?,?)"
            " ON CONFLICT(id) DO UPDATE SET deleted_at = excluded.deleted_at"
        )

        def work(tx: Tx) -> bool:
            found = tx.execute("DELETE FROM oauth_clients WHERE id = ?", (client_id,)).rowcount == 1
            if found:
                tx.execute(statement, (client_id, now))
            return found

        return await self._database.write(work)


def _document(client: Client) -> bytes:
    """Without what older versions don't know, where it says nothing: they read it, too."""
    document = msgspec.to_builtins(client)
    if client.refresh_ttl is None:
        del document["refresh_ttl"]
    return msgspec.json.encode(document)


def _client(document: bytes) -> Client:
    return msgspec.json.decode(document, type=Client)
