"""The seam under every SQL store of people: one dialect of SQL, two databases (`sqlite_sql`, `postgres_sql`).

Statements are written once: `?` for each parameter, `RETURNING`, `ON CONFLICT`, `LIMIT n OFFSET m` (no `LIMIT -1`);
types TEXT, BIGINT, DOUBLE PRECISION, BLOB (bytea in PostgreSQL). Booleans are BIGINT 0 or 1. A parameter's type must
show from what it meets (`column = ?`): else write `CAST(? AS BIGINT)`. No `?` and no `%` inside a literal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Value = str | int | float | bytes | None


class UniqueViolation(Exception):
    """A statement broke a UNIQUE or PRIMARY KEY constraint. Catch it around `write`: its transaction is lost."""


class Rows(Protocol):
    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Tx(Protocol):
    """One transaction, as if alone (serialisable). Valid only inside the `work` it was given to."""

    def execute(self, statement: str, parameters: Sequence[Value] = ()) -> Rows:
        """Raises UniqueViolation."""


class Database(Protocol):
    async def write(self, work: Callable[[Tx], T]) -> T:
        """What `work` returns, once its transaction is durable; raises what it raises and then nothing was changed.

        `work` may run more than once (a transaction that met another is tried again): it must have no other effect.
        Raises Unavailable `store_unavailable`.
        """

    async def read(self, work: Callable[[Tx], T]) -> T:
        """As `write`, for statements that change nothing; may run beside writers."""

    async def look_up(self, query: str, parameters: Sequence[Value] = ()) -> Sequence[Any]:
        """The rows of one query that an index answers with few of them: SQLite reads them on the caller's own thread,
        within some ten microseconds, and never waits for a writer. Raises Unavailable `store_unavailable`."""

    async def ensure(self, schema: Sequence[str]) -> None:
        """Run statements that may run at every start, by one instance at a time: `CREATE … IF NOT EXISTS`, and for
        tables of an older version `ALTER TABLE t ADD COLUMN c …`, which is passed over where the column is there.
        """

    async def close(self) -> None:
        """Finish what was asked; called once."""
