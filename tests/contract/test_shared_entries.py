"""One suite for `SharedEntryStore` on every database: what one server changes the others see, and nobody overwrites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends.sql import Database
from rempart.backends.sql_entries import SCHEMA, SqlEntries
from rempart.kernel.errors import Integrity
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import Entry, Selector
from rempart.workloads.ports import EntriesMoved

__all__ = ["postgres_server"]
KEY = b"k" * 32


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def servers(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[tuple[SqlEntries, SqlEntries, Database]]:
    async with fresh_database(request, kind, SCHEMA) as database:
        yield SqlEntries(database, KEY), SqlEntries(database, KEY), database


def entry(id_: str, name: str = "batch") -> Entry:
    return Entry(
        id=id_,
        spiffe_id=SpiffeId.parse(f"spiffe://bank.example/{name}"),
        selectors=frozenset({Selector.parse("unix:uid:1000"), Selector.parse("unix:path:/usr/bin/batch: odd")}),
        parent_id="spiffe://bank.example/host",
        ttl=60,
        jwt_ttl=30,
        dns_names=("batch.internal",),
        federates_with=("partner.example",),
        admin=True,
        downstream=True,
        hint="internal",
        expires_at=1_800_000_000.5,
    )


def test_a_change_is_seen_once_by_the_other_server(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (one, two, _):
            assert await two.changes(0) is None
            first = await one.replace([entry("a"), entry("b")], [], 0)
            seen = await two.changes(0)
            assert seen is not None
            assert sorted(seen.put, key=lambda e: e.id) == [entry("a"), entry("b")]
            assert seen.revision == first
            second = await two.replace([replace(entry("a"), ttl=0, expires_at=None)], ["b", "absent"], first)
            later = await one.changes(first)
            assert later is not None
            assert (later.put, later.kept) == ((replace(entry("a"), ttl=0, expires_at=None),), {"a"})
            assert await one.changes(second) is None

    asyncio.run(main())


def test_who_decided_by_what_is_past_changes_nothing(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (one, two, _):
            await one.replace([entry("a")], [], 0)
            with pytest.raises(EntriesMoved):
                await two.replace([entry("b")], ["a"], 0)
            seen = await two.changes(0)
            assert seen is not None
            assert seen.kept == {"a"}

    asyncio.run(main())


def test_of_many_at_once_one_wins_each_time(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (one, two, _):

            async def add(store: SqlEntries, name: str) -> None:
                revision = 0
                while True:
                    seen = await store.changes(revision)
                    revision = seen.revision if seen else revision
                    try:
                        await store.replace([entry(name)], [], revision)
                        return
                    except EntriesMoved:
                        continue

            await asyncio.gather(*(add((one, two)[n % 2], f"e{n}") for n in range(12)))
            seen = await one.changes(0)
            assert seen is not None
            assert (seen.revision, len(seen.kept)) == (12, 12)

    asyncio.run(main())


def test_a_database_brought_back_from_a_backup_is_read_anew(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (one, _, __):
            await one.replace([entry("a")], [], 0)
            seen = await one.changes(7)
            assert seen is not None
            assert (seen.revision, seen.kept, seen.put) == (1, {"a"}, (entry("a"),))

    asyncio.run(main())


@pytest.mark.parametrize("forgery", ["other row", "other key", "changed"])
def test_a_row_that_no_server_wrote_is_not_believed(request: pytest.FixtureRequest, kind: str, forgery: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (one, two, database):
            await one.replace([entry("a"), entry("b", "other")], [], 0)
            if forgery == "other key":
                two = SqlEntries(database, b"x" * 32)
            else:
                new = "(SELECT sealed FROM workload_entries WHERE id = 'b')" if forgery == "other row" else "?"
                values = () if forgery == "other row" else (b"\x01" * 100,)
                change = f"UPDATE workload_entries SET sealed = {new} WHERE id = 'a'"
                await database.write(lambda tx: tx.execute(change, values))
            with pytest.raises(Integrity) as refusal:
                await two.changes(0)
            assert refusal.value.code == "entry_store_broken"

    asyncio.run(main())
