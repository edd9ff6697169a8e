"""One suite for every `EntryStore`: the in-memory double and SQLite."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rempart.backends.sqlite_entries import SqliteEntryStore
from rempart.kernel.errors import Integrity, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import Entry, Selector
from rempart.workloads.ports import EntryStore


class MemoryEntryStore:
    """The double: a dictionary that outlives "closing" because the tests keep it."""

    def __init__(self, rows: dict[str, Entry]) -> None:
        self._rows = rows

    def load(self) -> list[Entry]:
        return [self._rows[key] for key in sorted(self._rows)]

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        for id_ in remove:
            self._rows.pop(id_, None)
        self._rows.update((entry.id, entry) for entry in put)

    def close(self) -> None: ...


Opener = Callable[[], EntryStore]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    rows: dict[str, Entry] = {}
    if request.param == "memory":
        return lambda: MemoryEntryStore(rows)
    return lambda: SqliteEntryStore(tmp_path / "entries.sqlite")


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


def test_what_was_put_is_there_after_reopening(open_store: Opener) -> None:
    store = open_store()
    store.replace([entry("b"), entry("a", "other")], [])
    store.close()
    reopened = open_store()
    assert reopened.load() == [entry("a", "other"), entry("b")]
    reopened.close()


def test_an_id_is_overwritten_and_removed(open_store: Opener) -> None:
    store = open_store()
    store.replace([entry("a"), entry("b")], [])
    store.replace([replace(entry("a"), ttl=0, expires_at=None)], ["b", "absent"])
    assert store.load() == [replace(entry("a"), ttl=0, expires_at=None)]
    store.close()


def test_nothing_is_nothing(open_store: Opener) -> None:
    store = open_store()
    store.replace([], [])
    assert store.load() == []
    store.close()


def test_sqlite_keeps_all_or_nothing(tmp_path: Path) -> None:
    store = SqliteEntryStore(tmp_path / "entries.sqlite")
    store.replace([entry("a")], [])
    with pytest.raises(Unavailable) as failure:
        store.replace([entry("b"), replace(entry("c"), ttl=-1)], ["a"])
    assert failure.value.code == "entry_store_failed"
    assert [e.id for e in store.load()] == ["a"]
    store.close()


def test_sqlite_file_is_the_owners_alone(tmp_path: Path) -> None:
    SqliteEntryStore(tmp_path / "entries.sqlite").close()
    assert stat.S_IMODE((tmp_path / "entries.sqlite").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change", ["selectors = '[]'", "selectors = 'x'", "selectors = '[\"unix:uid:x\"]'", "spiffe_id = 'x'"]
)
def test_sqlite_notices_what_is_no_entry(tmp_path: Path, change: str) -> None:
    path = tmp_path / "entries.sqlite"
    store = SqliteEntryStore(path)
    store.replace([entry("a")], [])
    store.close()
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE entry SET {change}")
    database.close()
    store = SqliteEntryStore(path)
    with pytest.raises(Integrity) as failure:
        store.load()
    assert failure.value.code == "entry_store_broken"
    store.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "entries.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable):
        SqliteEntryStore(tmp_path / "entries.sqlite")


def test_a_file_of_the_first_release_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "entries.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE entry (id TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL, parent_id TEXT NOT NULL, selectors TEXT "
            "NOT NULL, ttl INTEGER NOT NULL, dns_names TEXT NOT NULL, hint TEXT NOT NULL, expires_at REAL) STRICT, "
            "WITHOUT ROWID"
        )
        database.execute(
            "INSERT INTO entry VALUES ('a', 'spiffe://bank.example/a', '', '[\"unix:uid:1\"]', 9, '[]', '', NULL)"
        )
    database.close()
    for _ in range(2):
        store = SqliteEntryStore(path)
        (old,) = store.load()
        assert (old.ttl, old.jwt_ttl, old.federates_with, old.admin) == (9, 0, (), False)
        store.close()
