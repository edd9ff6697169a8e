"""Client certificates that were taken away, and authorities' revocation lists, in SQL; after `sql_clients`.

Implements `people.oauth.revocations.RevocationStore`. Trusted: who can write it can give a certificate back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from rempart.crypto.client_chain import Link
from rempart.people.oauth.revocations import KEPT, KeptList, Seen, TakenAway

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS revoked_certificates(digest TEXT PRIMARY KEY, note TEXT NOT NULL,"
    " at DOUBLE PRECISION NOT NULL)",
    "CREATE TABLE IF NOT EXISTS revocation_lists(issuer TEXT PRIMARY KEY, digest TEXT NOT NULL,"
    " at DOUBLE PRECISION NOT NULL, der BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS client_certificates(client_id TEXT NOT NULL, digest TEXT NOT NULL,"
    " seen BLOB NOT NULL, at DOUBLE PRECISION NOT NULL, PRIMARY KEY(client_id, digest))",
    "CREATE INDEX IF NOT EXISTS client_certificates_by_time ON client_certificates(at)",
)
_Kept = tuple[str, list[tuple[bytes, bytes, str]]]
_CUT = (
    "INSERT INTO deleted_clients(id, deleted_at) VALUES(?,?)"
    " ON CONFLICT(id) DO UPDATE SET deleted_at = excluded.deleted_at"
)


class SqlRevocations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def taken(self) -> Sequence[TakenAway]:
        query = "SELECT digest, note, at FROM revoked_certificates ORDER BY at, digest"
        rows = await self._database.look_up(query)
        return [TakenAway(bytes.fromhex(row[0]), row[1], row[2]) for row in rows]

    async def lists(self) -> Sequence[KeptList]:
        rows = await self._database.look_up("SELECT issuer, digest, at FROM revocation_lists ORDER BY issuer")
        return [KeptList(bytes.fromhex(row[0]), bytes.fromhex(row[1]), row[2]) for row in rows]

    async def der(self, issuer: bytes) -> bytes | None:
        query = "SELECT der FROM revocation_lists WHERE issuer = ?"
        row = await self._database.read(lambda tx: tx.execute(query, (issuer.hex(),)).fetchone())
        return bytes(row[0]) if row else None

    async def take(self, taken: TakenAway, hit: Callable[[Seen], bool]) -> Sequence[str]:
        statement = (
            "INSERT INTO revoked_certificates(digest, note, at) VALUES(?,?,?)"
            " ON CONFLICT(digest) DO UPDATE SET note = excluded.note, at = excluded.at"
        )

        def work(tx: Tx) -> Sequence[str]:
            tx.execute(statement, (taken.digest.hex(), taken.note, taken.at))
            return _end_tokens(tx, hit, taken.at)

        return await self._database.write(work)

    async def put(self, kept: KeptList, der: bytes, hit: Callable[[Seen], bool]) -> Sequence[str]:
        statement = (
            "INSERT INTO revocation_lists(issuer, digest, at, der) VALUES(?,?,?,?) ON CONFLICT(issuer)"
            " DO UPDATE SET digest = excluded.digest, at = excluded.at, der = excluded.der"
        )

        def work(tx: Tx) -> Sequence[str]:
            tx.execute(statement, (kept.issuer.hex(), kept.digest.hex(), kept.at, der))
            return _end_tokens(tx, hit, kept.at)

        return await self._database.write(work)

    async def drop(self, id: bytes) -> bool:
        def work(tx: Tx) -> bool:
            taken = tx.execute("DELETE FROM revoked_certificates WHERE digest = ?", (id.hex(),)).rowcount
            return taken + tx.execute("DELETE FROM revocation_lists WHERE issuer = ?", (id.hex(),)).rowcount > 0

        return await self._database.write(work)

    async def see(self, seen: Seen, now: float) -> None:
        statement = (
            "INSERT INTO client_certificates(client_id, digest, seen, at) VALUES(?,?,?,?)"
            " ON CONFLICT(client_id, digest) DO UPDATE SET seen = excluded.seen, at = excluded.at"
        )
        values = (seen.client_id, seen.path[0].digest.hex(), _encoded(seen), now)

        def work(tx: Tx) -> None:
            tx.execute("DELETE FROM client_certificates WHERE at < ?", (now - KEPT,))
            tx.execute(statement, values)

        await self._database.write(work)


def _end_tokens(tx: Tx, hit: Callable[[Seen], bool], now: float) -> Sequence[str]:
    """Those of clients that proved themselves by what fell: all that they were given until now."""
    rows = tx.execute("SELECT seen FROM client_certificates").fetchall()
    clients = sorted({seen.client_id for seen in map(_decoded, rows) if hit(seen)})
    for client_id in clients:
        if tx.execute("SELECT 1 FROM oauth_clients WHERE id = ?", (client_id,)).fetchone():
            tx.execute(_CUT, (client_id, now))
    return clients


def _encoded(seen: Seen) -> bytes:
    path = [(link.digest, link.issuer, f"{link.serial:x}") for link in seen.path]
    return msgspec.msgpack.encode((seen.client_id, path))


def _decoded(row: tuple[bytes]) -> Seen:
    client_id, path = msgspec.msgpack.decode(row[0], type=_Kept)
    return Seen(client_id, tuple(Link(digest, issuer, int(serial, 16)) for digest, issuer, serial in path))
