"""Which version of the tables a database has, so that an older program doesn't write to newer ones.

A column or table that is only added keeps its version: older programs name the columns that they know, and what was
added has a default. A change that an older program would spoil takes the next number.
"""

from __future__ import annotations

from rempart.kernel.errors import Conflict

from .sql import Database, Tx

SCHEMA = ("CREATE TABLE IF NOT EXISTS schema_versions(room TEXT PRIMARY KEY, version BIGINT NOT NULL)",)
_FOUND = "SELECT version FROM schema_versions WHERE room = ?"
_SET = (
    "INSERT INTO schema_versions(room, version) VALUES(?, ?) ON CONFLICT(room) DO UPDATE SET version = excluded.version"
)


async def claim_version(database: Database, room: str, version: int) -> None:
    """Before any other table of `room` is touched. Durable when it returns; of several at once the newest stays.

    Raises Conflict `newer_schema`, Unavailable.
    """
    await database.ensure(SCHEMA)

    def work(tx: Tx) -> int:
        row = tx.execute(_FOUND, (room,)).fetchone()
        found = int(row[0]) if row else 0
        if found < version:
            tx.execute(_SET, (room, version))
        return found

    found = await database.write(work)
    if found > version:
        raise Conflict(
            "newer_schema",
            f"the tables of {room} are of version {found}, and this program knows {version}",
            "start the version of Rempart that last ran on this database, or a newer one",
        )
