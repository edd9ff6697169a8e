"""What every SQL database under the stores of people must do; run on SQLite and on real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.people_stores import fresh_database, fresh_sqlite, postgres_server
from tests.postgres import fresh_postgres, private_postgres

from rempart.backends.postgres_sql import PostgresDatabase
from rempart.backends.sql import Database, Tx, UniqueViolation
from rempart.backends.sql_version import claim_version
from rempart.kernel.errors import Conflict, Unavailable

__all__ = ["postgres_server"]  # a fixture
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS things("
    " id TEXT PRIMARY KEY, number BIGINT, real DOUBLE PRECISION, data BLOB, name TEXT)",
    "CREATE INDEX IF NOT EXISTS things_by_name ON things(name)",
    "ALTER TABLE things ADD COLUMN added BIGINT NOT NULL DEFAULT 7",
)
INSERT = "INSERT INTO things(id, number, real, data, name) VALUES(?,?,?,?,?)"
Scenario = Callable[[Database], Coroutine[Any, Any, None]]


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            async with fresh_database(request, request.param, SCHEMA) as database:
                await scenario(database)

        asyncio.run(body())

    return runner


async def add(database: Database, name: str, number: int = 0) -> None:
    await database.write(lambda tx: tx.execute(INSERT, (name, number, None, None, None)).rowcount)


async def numbers(database: Database) -> dict[str, int]:
    rows = await database.read(lambda tx: tx.execute("SELECT id, number FROM things ORDER BY id").fetchall())
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize(
    "row",
    [
        ("a", 2**63 - 1, 1_700_000_000.123456, bytes(range(256)), "é 😀 % ? %s :x $1 '\" \\"),
        ("b", -(2**63), -0.1, b"", ""),
        ("c", None, None, None, None),
        ("d", 1, 5e-324, b"\x00", "a\nb"),
    ],
)
def test_values_come_back_as_they_went(run: Callable[[Scenario], None], row: tuple[Any, ...]) -> None:
    async def scenario(database: Database) -> None:
        await database.write(lambda tx: tx.execute(INSERT, row).rowcount)
        query = "SELECT id, number, real, data, name FROM things WHERE id = ?"
        found = await database.read(lambda tx: tx.execute(query, (row[0],)).fetchone())
        assert tuple(found) == row

    run(scenario)


def test_rows_are_counted_and_returned(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        for number in range(5):
            await add(database, f"t{number}", number)

        def work(tx: Tx) -> tuple[int, int, list[Any], Any]:
            returned = tx.execute("UPDATE things SET number = number + 1 WHERE number > ? RETURNING number", (2,))
            gone = tx.execute("DELETE FROM things WHERE number = ?", (99,))
            none = tx.execute("SELECT 1 FROM things WHERE id = ?", ("x",))
            return returned.rowcount, gone.rowcount, sorted(row[0] for row in returned.fetchall()), none.fetchone()

        assert await database.write(work) == (2, 0, [4, 5], None)

    run(scenario)


def test_what_raises_changes_nothing_and_disturbs_nobody(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        def failing(tx: Tx) -> None:
            tx.execute(INSERT, ("half", 1, None, None, None))
            raise Conflict("no", "not this one")

        work = [add(database, f"t{n}") if n % 2 else database.write(failing) for n in range(20)]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        assert [isinstance(outcome, Conflict) for outcome in outcomes] == [n % 2 == 0 for n in range(20)]
        assert list(await numbers(database)) == sorted(f"t{n}" for n in range(1, 20, 2))

    run(scenario)


def test_a_broken_constraint_is_told_and_loses_the_transaction_even_if_nobody_minds(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "one")
        with pytest.raises(UniqueViolation):
            await add(database, "one")

        def careless(tx: Tx) -> str:
            tx.execute(INSERT, ("two", 2, None, None, None))
            with contextlib.suppress(UniqueViolation):
                tx.execute(INSERT, ("one", 2, None, None, None))
            return "fine"

        with pytest.raises(UniqueViolation):
            await database.write(careless)
        outcomes = await asyncio.gather(
            database.write(careless), add(database, "three"), database.write(careless), return_exceptions=True
        )
        assert [isinstance(outcome, UniqueViolation) for outcome in outcomes] == [True, False, True]
        assert list(await numbers(database)) == ["one", "three"]

    run(scenario)


def test_a_faulty_statement_is_no_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        outcomes = await asyncio.gather(
            *(database.write(lambda tx: tx.execute("SELECT * FROM nothing").fetchall()), add(database, "one")),
            database.read(lambda tx: tx.execute("SELECT * FROM nothing").fetchall()),
            return_exceptions=True,
        )
        assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True, False, True]
        assert list(await numbers(database)) == ["one"]

    run(scenario)


def test_readers_see_one_moment(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "one", 0)
        increment = "UPDATE things SET number = number + 1 WHERE id = 'one'"

        def twice(tx: Tx) -> bool:
            query = "SELECT number FROM things WHERE id = 'one'"
            first = tx.execute(query).fetchone()[0]
            return all(tx.execute(query).fetchone()[0] == first for _ in range(20))

        changes = [database.write(lambda tx: tx.execute(increment).rowcount) for _ in range(50)]
        seen = await asyncio.gather(*changes, *(database.read(twice) for _ in range(20)))
        assert all(seen)
        assert await numbers(database) == {"one": 50}

    run(scenario)


def test_a_look_up_finds_what_was_just_written_and_can_change_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        for number in range(20):
            await add(database, f"t{number}", number)
            rows = await database.look_up("SELECT id, number FROM things WHERE id = ?", (f"t{number}",))
            assert [tuple(row) for row in rows] == [(f"t{number}", number)]
        assert list(await database.look_up("SELECT id FROM things WHERE id = ?", ("none",))) == []
        for statement in ("DELETE FROM things", "SELECT * FROM nothing"):
            with pytest.raises(Unavailable):
                await database.look_up(statement)
        assert len(await numbers(database)) == 20

    run(scenario)


def test_a_look_up_waits_for_no_writer_and_a_whole_lock_makes_only_it_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fresh_sqlite(tmp_path, SCHEMA) as database:
            await add(database, "one", 1)
            other = sqlite3.connect(tmp_path / "people.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE things SET number = 2")
            query = "SELECT number FROM things WHERE id = 'one'"
            assert await database.look_up(query) == [(1,)]
            other.execute("COMMIT")
            other.close()
            assert await database.look_up(query) == [(2,)]

            locked = _LockedOnce()
            database._near.close()
            database._near = locked  # type: ignore[assignment]  # SQLite locks a whole WAL file in recovery only
            assert await database.look_up(query) == [(2,)]
            assert locked.asked == 1

    asyncio.run(scenario())


class _LockedOnce:
    asked = 0

    def execute(self, query: str, parameters: object) -> None:
        self.asked += 1
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    def close(self) -> None:
        pass


def test_the_schema_may_be_made_again_and_added_to(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        await add(database, "one")
        await asyncio.gather(*(database.ensure(SCHEMA) for _ in range(4)))
        await database.ensure(("ALTER TABLE things ADD COLUMN later BLOB",))
        row = await database.read(lambda tx: tx.execute("SELECT added, later FROM things").fetchone())
        assert tuple(row) == (7, None)

    run(scenario)


def test_what_is_closed_refuses(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        pending = asyncio.ensure_future(add(database, "one"))
        await asyncio.sleep(0)
        await database.close()
        await pending
        with pytest.raises(Unavailable):
            await add(database, "two")
        with pytest.raises(Unavailable):
            await numbers(database)
        with pytest.raises(Unavailable):
            await database.look_up("SELECT number FROM things WHERE id = 'one'")

    run(scenario)


def test_instances_on_one_postgres_are_as_if_alone(postgres_server: str) -> None:
    """Write skew: each transaction reads what the other changes. One of two at most may see nothing and add."""

    async def scenario() -> None:
        async with fresh_postgres(postgres_server) as one:
            two = PostgresDatabase(postgres_server)
            await asyncio.gather(one.ensure(SCHEMA), two.ensure(SCHEMA))

            def only_first(name: str, group: int) -> Callable[[Tx], bool]:
                def work(tx: Tx) -> bool:
                    if tx.execute("SELECT id FROM things WHERE number = ?", (group,)).fetchone():
                        return False
                    return tx.execute(INSERT, (name, group, None, None, None)).rowcount == 1

                return work

            for group in range(20):
                added = await asyncio.gather(
                    *(db.write(only_first(f"{group}-{n}", group)) for n, db in enumerate((one, two, one, two)))
                )
                assert sum(added) == 1
            increment = "UPDATE things SET number = number + 1000 WHERE id = ?"
            first = next(iter(await numbers(one)))
            await asyncio.gather(
                *(db.write(lambda tx: tx.execute(increment, (first,)).rowcount) for db in (one, two) for _ in range(50))
            )
            assert (await numbers(two))[first] >= 100_000
            await two.close()

    asyncio.run(scenario())


def test_postgres_goes_and_comes_back() -> None:
    async def scenario() -> None:
        with private_postgres() as server:
            async with fresh_postgres(server.conninfo) as database:
                await database.ensure(SCHEMA)
                await add(database, "one")
                assert await numbers(database) == {"one": 0}
                server.stop()
                for _ in range(3):
                    with pytest.raises(Unavailable) as refusal:
                        await add(database, "lost")
                    assert refusal.value.code == "store_unavailable"
                    with pytest.raises(Unavailable):
                        await numbers(database)
                server.start()
                await asyncio.gather(add(database, "two"), numbers(database), add(database, "three"))
                server.stop()
                server.start()  # nobody noticed
                await asyncio.gather(
                    *(add(database, f"t{n}") for n in range(5)), *(numbers(database) for _ in range(5))
                )
                assert len(await numbers(database)) == 8

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("postgresql://db.internal/people", "verify-full"),
        ("host=db.internal", "verify-full"),
        ("postgresql://db.internal/people?sslmode=verify-ca", "verify-ca"),
        ("postgresql:///people", None),
        ("host=/run/postgresql", None),
        ("postgresql://127.0.0.1/people", None),
    ],
)
def test_another_host_proves_its_name(address: str, mode: str | None) -> None:
    database = PostgresDatabase(address)
    assert database._parameters.get("sslmode") == mode
    asyncio.run(database.close())


def test_a_program_older_than_the_tables_is_turned_away(run: Callable[[Scenario], None]) -> None:
    async def scenario(database: Database) -> None:
        for version in (1, 1, 3, 3):
            await claim_version(database, "people", version)
        await claim_version(database, "others", 1)
        with pytest.raises(Conflict) as refused:
            await claim_version(database, "people", 2)
        assert refused.value.code == "newer_schema"
        together = [claim_version(database, "people", version) for version in (3, 4, 4)]
        _, *newest = await asyncio.gather(*together, return_exceptions=True)
        assert newest == [None, None]
        with pytest.raises(Conflict):
            await claim_version(database, "people", 3)

    run(scenario)
