"""The servers of a trust domain in SQL: implements `workloads.ports.ServerStore`. What they publish is sealed."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.workloads.model import ServerRow, ServerRows

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS workload_servers(id TEXT PRIMARY KEY, incarnation TEXT NOT NULL, beat BIGINT NOT NULL, "
    "seen BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL, sealed BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS workload_bundle(id BIGINT PRIMARY KEY, sequence BIGINT NOT NULL)",
    "INSERT INTO workload_bundle(id, sequence) VALUES(1, 0) ON CONFLICT(id) DO NOTHING",
)
_SEQUENCE = "SELECT sequence FROM workload_bundle WHERE id = 1"
_COLUMNS = "id, incarnation, beat, seen, at, sealed"
_PUT = (
    f"INSERT INTO workload_servers({_COLUMNS}) VALUES(?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET "  # nosec B608 - our own
    "incarnation = excluded.incarnation, beat = excluded.beat, seen = excluded.seen, at = excluded.at, "
    "sealed = excluded.sealed"
)


class SqlServers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> ServerRows:
        return await self._database.read(_read)

    async def publish(self, row: ServerRow, *, remove: Sequence[ServerRow], above: int) -> ServerRows:
        def work(tx: Tx) -> ServerRows:
            for gone in remove:
                unchanged = "DELETE FROM workload_servers WHERE id = ? AND incarnation = ? AND beat = ?"
                tx.execute(unchanged, (gone.id, gone.incarnation, gone.beat))
            tx.execute(_PUT, (row.id, row.incarnation, row.beat, row.seen, row.at, row.sealed))
            sequence = max(tx.execute(_SEQUENCE).fetchone()[0], above) + 1
            tx.execute("UPDATE workload_bundle SET sequence = ? WHERE id = 1", (sequence,))
            return _read(tx)

        return await self._database.write(work)

    async def beat(self, row: ServerRow) -> bool:
        statement = "UPDATE workload_servers SET beat = ?, seen = ?, at = ? WHERE id = ? AND incarnation = ?"
        values = (row.beat, row.seen, row.at, row.id, row.incarnation)
        return await self._database.write(lambda tx: tx.execute(statement, values).rowcount == 1)


def _read(tx: Tx) -> ServerRows:
    rows = tx.execute(f"SELECT {_COLUMNS} FROM workload_servers ORDER BY id").fetchall()  # nosec B608 - our own
    made = tuple(ServerRow(id=r[0], incarnation=r[1], beat=r[2], seen=r[3], at=r[4], sealed=bytes(r[5])) for r in rows)
    return ServerRows(tx.execute(_SEQUENCE).fetchone()[0], made)
