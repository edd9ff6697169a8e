"""Agents and join tokens in SQL: implements `workloads.ports.AgentStore`.

Trusted: who can write here can let an agent of their own into the trust domain. Who can read gets digests of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rempart.workloads.agents.model import Agent, JoinToken

from .sql import Database, Tx

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS workload_agents(spiffe_id TEXT PRIMARY KEY, method TEXT NOT NULL, facts TEXT NOT NULL,"
    " serial TEXT NOT NULL, next_serial TEXT NOT NULL, old_serial TEXT NOT NULL, old_until DOUBLE PRECISION NOT NULL,"
    " expires_at DOUBLE PRECISION NOT NULL,"
    " joined_at DOUBLE PRECISION NOT NULL, banned BIGINT NOT NULL, rejoins BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS workload_join_tokens(digest TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL,"
    " expires_at DOUBLE PRECISION NOT NULL)",
)
_COLUMNS = (
    "spiffe_id, method, facts, serial, next_serial, old_serial, old_until, expires_at, joined_at, banned, rejoins"
)
_NEWLINE = "\n"


class SqlAgents:
    """After `SCHEMA`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def agents(self) -> list[Agent]:
        query = f"SELECT {_COLUMNS} FROM workload_agents ORDER BY spiffe_id"  # nosec B608 - constants
        rows = await self._database.read(lambda tx: tx.execute(query).fetchall())
        return [_agent(row) for row in rows]

    async def find(self, spiffe_id: str) -> Agent | None:
        return await self._database.read(lambda tx: _find(tx, spiffe_id))

    async def change(self, spiffe_id: str, how: Callable[[Agent | None], Agent | None]) -> Agent | None:
        def work(tx: Tx) -> Agent | None:
            before = _find(tx, spiffe_id)
            after = how(before)
            if after == before:
                return after
            tx.execute("DELETE FROM workload_agents WHERE spiffe_id = ?", (spiffe_id,))
            if after is not None:
                tx.execute(
                    f"INSERT INTO workload_agents({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?)",  # nosec B608 - constants
                    (
                        *(spiffe_id, after.method, _NEWLINE.join(after.facts), after.serial, after.next_serial),
                        *(after.old_serial, after.old_until, after.expires_at, after.joined_at),
                        *(int(after.banned), int(after.rejoins)),
                    ),
                )
            return after

        return await self._database.write(work)

    async def put_token(self, token: JoinToken) -> None:
        statement = "INSERT INTO workload_join_tokens(digest, spiffe_id, expires_at) VALUES(?,?,?)"
        values = (token.digest, token.spiffe_id, token.expires_at)
        await self._database.write(lambda tx: tx.execute(statement, values))

    async def take_token(self, digest: str) -> JoinToken | None:
        statement = "DELETE FROM workload_join_tokens WHERE digest = ? RETURNING digest, spiffe_id, expires_at"
        row = await self._database.write(lambda tx: tx.execute(statement, (digest,)).fetchone())
        return JoinToken(digest=row[0], spiffe_id=row[1], expires_at=row[2]) if row else None

    async def void_tokens(self, spiffe_id: str) -> int:
        statement = "DELETE FROM workload_join_tokens WHERE spiffe_id = ? RETURNING digest"
        return len(await self._database.write(lambda tx: tx.execute(statement, (spiffe_id,)).fetchall()))

    async def sweep(self, before: float) -> None:
        def work(tx: Tx) -> None:
            tx.execute("DELETE FROM workload_join_tokens WHERE expires_at < ?", (before,))
            tx.execute("DELETE FROM workload_agents WHERE expires_at < ? AND banned = 0", (before,))

        await self._database.write(work)


def _find(tx: Tx, spiffe_id: str) -> Agent | None:
    query = f"SELECT {_COLUMNS} FROM workload_agents WHERE spiffe_id = ?"  # nosec B608 - constants
    row = tx.execute(query, (spiffe_id,)).fetchone()
    return _agent(row) if row else None


def _agent(row: Any) -> Agent:
    return Agent(
        spiffe_id=row[0],
        method=row[1],
        facts=tuple(row[2].split(_NEWLINE)) if row[2] else (),
        serial=row[3],
        next_serial=row[4],
        old_serial=row[5],
        old_until=row[6],
        expires_at=row[7],
        joined_at=row[8],
        banned=bool(row[9]),
        rejoins=bool(row[10]),
    )
