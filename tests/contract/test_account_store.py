"""What every store of accounts and refresh families must do; run on each implementation."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.people_fakes import MemoryAccounts
from tests.postgres import fresh_postgres, postgres

from rempart.backends import sql_accounts, sql_families
from rempart.backends.sql import Database
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_families import SqlFamilies
from rempart.backends.sqlite_sql import SqliteDatabase
from rempart.kernel.errors import Conflict
from rempart.kernel.event import Event, EventType
from rempart.kernel.principal import Role
from rempart.people.model import Account, Credentials, Dead, RefreshFamily, Repeated, Reused, Rotated

SCHEMA = (*sql_accounts.SCHEMA, *sql_families.SCHEMA)


class SqlStore(SqlAccounts, SqlFamilies):
    """Accounts and families over one database, as the process has them."""

    def __init__(self, database: Database, *, instance: str = "") -> None:
        super().__init__(database, instance=instance)


Store = SqlStore | MemoryAccounts
Scenario = Callable[[Store], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as conninfo:
        yield conninfo


@contextlib.asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(directory / "people.db")
    try:
        await database.ensure(SCHEMA)
        yield database
    finally:
        await database.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh store within one event loop."""

    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            if request.param == "memory":
                return await scenario(MemoryAccounts())
            if request.param == "postgres":
                async with fresh_postgres(request.getfixturevalue("server")) as database:
                    await database.ensure(SCHEMA)
                    return await scenario(SqlStore(database))
            async with sqlite(tmp_path) as database:
                return await scenario(SqlStore(database))

        asyncio.run(body())

    return runner


def account(name: str = "ann", **fields: Any) -> Account:
    base = Account(id=f"usr_{name}", email=f"{name}@bank.example", name=name, role=Role.USER, payment_limit=None,
                   disabled=False, second_factor=False, version=1, epoch=1, created_at=1.0, updated_at=1.0)  # fmt: skip
    return replace(base, **fields)


def event(**fields: Any) -> Event:
    return Event(type=EventType.ACCOUNT_CHANGED, at=2.0, success=True, **fields)


def family(name: str = "fam_1", **fields: Any) -> RefreshFamily:
    base = RefreshFamily(id=name, account_id="usr_ann", epoch=1, amr=("pwd",), scope="session", network="203.0.113.7",
                         user_agent="curl", created_at=10.0, last_used_at=10.0, expires_at=1000.0)  # fmt: skip
    return replace(base, **fields)


def nxt(before: Account, **fields: Any) -> Account:
    return replace(before, version=before.version + 1, **fields)


async def refused(code: str, work: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(Conflict) as refusal:
        await work
    assert refusal.value.code == code


def test_an_account_is_read_as_it_was_written(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        written = account(payment_limit=500, role=Role.FINANCE)
        await store.add(written, Credentials("hash"), event())
        assert await store.get("usr_ann") == written
        found = await store.by_email("ann@bank.example")
        assert found is not None
        assert (found[0], found[1].password_hash, found[1].totp) == (written, "hash", None)
        assert await store.get("usr_bob") is None
        assert await store.by_email("bob@bank.example") is None

    run(scenario)


def test_an_address_belongs_to_one_account(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await refused("email_taken", store.add(account("bob", email="ann@bank.example"), Credentials("h"), event()))
        await store.add(account("bob"), Credentials("h"), event())
        await refused("email_taken", store.replace(nxt(account("bob"), email="ann@bank.example"), event()))
        assert await store.get("usr_bob") == account("bob")
        assert len(await store.pending()) == 2  # a refused change leaves no event

    run(scenario)


def test_pages_are_in_order_and_complete(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        names = [f"p{number:02}" for number in range(25)]
        for name in reversed(names):
            await store.add(account(name), Credentials("h"), event())
        seen: list[str] = []
        while page := await store.page(seen[-1] if seen else "", 10):
            seen += [entry.id for entry in page]
        assert seen == [f"usr_{name}" for name in names]

    run(scenario)


def test_of_two_changes_to_one_version_one_is_stale(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        changes = [store.replace(nxt(account(), name=f"n{number}"), event()) for number in range(8)]
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 1
        assert {outcome.code for outcome in outcomes if isinstance(outcome, Conflict)} == {"stale_version"}
        await refused("stale_version", store.replace(account("nobody", version=2), event()))

    run(scenario)


def test_the_last_enabled_administrator_stays(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        first, second = account("one", role=Role.ADMIN), account("two", role=Role.ADMIN)
        await store.add(first, Credentials("h"), event())
        await store.add(account("off", role=Role.ADMIN, disabled=True), Credentials("h"), event())
        await refused("last_admin", store.replace(nxt(first, disabled=True), event()))
        await refused("last_admin", store.replace(nxt(first, role=Role.USER), event()))
        await store.replace(nxt(first, name="still me"), event())
        await store.add(second, Credentials("h"), event())
        both = [
            store.replace(nxt(nxt(first), role=Role.USER), event()),
            store.replace(nxt(second, disabled=True), event()),
        ]
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 1

    run(scenario)


def test_a_change_waits_in_the_outbox_until_it_is_settled(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        made = event(before={"a": 1}, after={"a": [1, "x", None]}, details={"b": True}, person="usr_x")
        await store.add(account(), Credentials("h"), made)
        later = event()
        await store.replace(nxt(account(), name="new"), later)
        assert list(await store.pending()) == [made, later]
        await store.settle(made.id)
        await store.settle("evt_unknown")
        assert [entry.id for entry in await store.pending()] == [later.id]

    run(scenario)


def test_credentials_change_with_the_account_or_not_at_all(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("old"), event())
        await store.set_credentials(account(), "rehashed", None, None)
        changed = nxt(account(), epoch=2, second_factor=True)
        await store.set_credentials(changed, None, b"sealed", event())
        found = await store.by_email("ann@bank.example")
        assert found is not None
        assert (found[0].epoch, found[0].second_factor) == (2, True)
        assert (found[1].password_hash, found[1].totp) == ("rehashed", b"sealed")
        await refused("stale_version", store.set_credentials(account(), "late", None, None))
        await refused("stale_version", store.set_credentials(changed, "late", None, event()))
        found = await store.by_email("ann@bank.example")
        assert found is not None
        assert found[1].password_hash == "rehashed"

    run(scenario)


def test_a_step_is_used_once_and_never_an_earlier_one(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h", b"t"), event())
        assert sorted(await asyncio.gather(*(store.use_step("usr_ann", 7) for _ in range(10)))) == [False] * 9 + [True]
        assert [await store.use_step("usr_ann", step) for step in (6, 7, 8)] == [False, False, True]
        assert await store.use_step("usr_nobody", 9) is False

    run(scenario)


async def rotate(store: Store, presented: bytes, successor: bytes, *, now: float = 20.0) -> Any:
    return await store.rotate("fam_1", presented, successor, b"sealed " + successor, now=now, grace=10)


def test_of_many_with_one_token_one_rotates_and_the_others_get_the_same_successor(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.open(family(), b"t0", keep=5)
        outcomes = await asyncio.gather(*(rotate(store, b"t0", b"t%d" % number) for number in range(1, 9)))
        assert [type(outcome) for outcome in outcomes].count(Rotated) == 1
        sealed = {outcome.sealed_successor for outcome in outcomes if isinstance(outcome, Repeated)}
        assert len(sealed) == 1
        assert sum(isinstance(outcome, Repeated) for outcome in outcomes) == 7

    run(scenario)


@pytest.mark.parametrize(("presented", "later"), [(b"t0", 30.1), (b"ancient", 20.0)])
def test_an_old_token_kills_the_family_for_good(
    run: Callable[[Scenario], None], presented: bytes, later: float
) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.open(family(), b"t0", keep=5)
        assert isinstance(await rotate(store, b"t0", b"t1"), Rotated)
        killed = await rotate(store, presented, b"t2", now=later)
        assert isinstance(killed, Reused)
        assert killed.family.revoked_for == "reuse"
        assert isinstance(await rotate(store, b"t1", b"t3", now=later), Dead)
        assert isinstance(await rotate(store, presented, b"t3", now=later), Dead)

    run(scenario)


def test_a_token_in_its_grace_stops_being_one_once_the_successor_was_used(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.open(family(), b"t0", keep=5)
        assert isinstance(await rotate(store, b"t0", b"t1"), Rotated)
        assert isinstance(await rotate(store, b"t0", b"tx", now=29.9), Repeated)
        assert isinstance(await rotate(store, b"t1", b"t2", now=29.9), Rotated)
        assert isinstance(await rotate(store, b"t0", b"tx", now=29.9), Reused)

    run(scenario)


def test_nothing_rotates_for_a_disabled_changed_or_expired_one(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.open(family(), b"t0", keep=5)
        assert isinstance(await rotate(store, b"t0", b"t1", now=1000.0), Dead)
        assert isinstance(await store.rotate("fam_x", b"t0", b"t1", b"", now=20.0, grace=10), Dead)
        off = nxt(account(), disabled=True)
        await store.replace(off, event())
        assert isinstance(await rotate(store, b"t0", b"t1"), Dead)
        on = nxt(off, disabled=False, epoch=2)
        await store.replace(on, event())
        assert isinstance(await rotate(store, b"t0", b"t1"), Dead)
        await store.open(family("fam_2", epoch=2), b"u0", keep=5)
        assert isinstance(await store.rotate("fam_2", b"u0", b"u1", b"s", now=20.0, grace=10), Rotated)

    run(scenario)


def test_families_are_listed_revoked_bounded_and_swept(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        for number in range(5):
            fresh = family(f"fam_{number}", created_at=10.0 + number, network=f"203.0.113.{number}")
            await store.open(fresh, b"%d" % number, keep=3)
        listed = await store.of_account("usr_ann")
        assert [entry.id for entry in listed] == [f"fam_{number}" for number in (4, 3, 2, 1, 0)]
        assert [entry.revoked_for for entry in listed] == ["", "", "", "too_many", "too_many"]
        assert await store.knows_network("usr_ann", "203.0.113.0")
        assert not await store.knows_network("usr_ann", "203.0.113.9")
        assert not await store.knows_network("usr_bob", "203.0.113.0")
        ended = await store.revoke("fam_4", "logout", 20.0)
        assert ended is not None
        assert ended.revoked_at == 20.0
        assert await store.revoke("fam_4", "logout", 21.0) is None
        assert await store.revoke("fam_unknown", "logout", 21.0) is None
        assert await store.revoke_all("usr_ann", "administrator", 22.0) == 2
        assert await store.revoke_all("usr_ann", "administrator", 22.0) == 0
        assert await store.sweep(19.0) == 2
        assert await store.sweep(1001.0) == 3
        assert list(await store.of_account("usr_ann")) == []

    run(scenario)


def test_a_family_keeps_its_client_and_ends_with_the_client_or_the_session(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        app = family("fam_app", client_id="app", session_id="ses_1", audience=("api", "other"), acr="mfa",
                     auth_time=9.5, bound_to="jkt:abc")  # fmt: skip
        await store.open(app, b"a", keep=9)
        await store.open(family("fam_other", client_id="other", session_id="ses_1"), b"o", keep=9)
        await store.open(family("fam_plain"), b"p", keep=9)
        assert await store.find("fam_app") == (app, b"a")
        assert await store.find("fam_nobody") is None
        assert await store.revoke_all("usr_ann", "consent", 20.0, client_id="nobody") == 0
        assert await store.revoke_all("usr_ann", "consent", 20.0, client_id="app", session_id="ses_2") == 0
        assert await store.revoke_all("usr_ann", "consent", 20.0, client_id="app") == 1
        assert await store.revoke_all("usr_ann", "logout", 21.0, session_id="ses_1") == 1
        alive = [entry.id for entry in await store.of_account("usr_ann") if entry.revoked_at is None]
        assert alive == ["fam_plain"]

    run(scenario)


def test_who_logs_in_all_day_fills_no_disk(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.add(account("bob"), Credentials("h"), event())
        await store.open(family("fam_bob", account_id="usr_bob"), b"b", keep=3)
        for number in range(20):
            await store.open(family(f"fam_{number:02}", created_at=10.0 + number), b"%d" % number, keep=3)
        assert [entry.id for entry in await store.of_account("usr_ann")] == [f"fam_{n}" for n in range(19, 13, -1)]
        assert len(await store.of_account("usr_bob")) == 1

    run(scenario)


def test_a_clock_that_was_set_back_ends_no_session(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add(account(), Credentials("h"), event())
        await store.open(family(), b"t0", keep=5)
        assert isinstance(await rotate(store, b"t0", b"t1", now=500.0), Rotated)
        assert isinstance(await rotate(store, b"t0", b"tx", now=400.0), Repeated)
        assert isinstance(await rotate(store, b"t1", b"t2", now=400.0), Rotated)

    run(scenario)


def test_of_two_instances_one_publishes_a_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite(tmp_path) as database:
            one, two = SqlStore(database, instance="one"), SqlStore(database, instance="two")
            made = event()
            await one.add(account(), Credentials("h"), made)
            seen = await asyncio.gather(one.pending(), two.pending())
            assert sorted(map(len, seen)) == [0, 1]
            publisher = one if seen[0] else two
            assert list(await publisher.pending()) == [made]
            await publisher.settle(made.id)
            assert list(await publisher.pending()) == []

    asyncio.run(scenario())


def test_sqlite_keeps_everything_over_a_restart_and_opens_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "people.db"

    async def write() -> None:
        async with sqlite(tmp_path) as database:
            store = SqlStore(database)
            await store.add(account(), Credentials("h", b"t"), event())
            await store.open(family(), b"t0", keep=5)

    async def read() -> None:
        async with sqlite(tmp_path) as database:
            store = SqlStore(database)
            assert await store.get("usr_ann") == account(second_factor=True)
            assert len(await store.pending()) == 1
            assert isinstance(await rotate(store, b"t0", b"t1"), Rotated)

    asyncio.run(write())
    assert path.stat().st_mode & 0o777 == 0o600
    asyncio.run(read())


def test_sqlite_writes_survive_a_power_cut_by_its_settings(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite(tmp_path) as database:
            pragma = await database._writer.run(
                lambda db: (
                    db.execute("PRAGMA journal_mode").fetchone()[0],
                    db.execute("PRAGMA synchronous").fetchone()[0],
                )
            )
        assert pragma == ("wal", 2)

    asyncio.run(scenario())


def test_sqlite_one_failing_piece_of_work_takes_back_only_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite(tmp_path) as database:
            store = SqlStore(database)
            work = [store.add(account(f"p{number % 5}"), Credentials("h"), event()) for number in range(10)]
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            assert sum(outcome is None for outcome in outcomes) == 5
            assert len(await store.page("", 100)) == 5
            assert len(await store.pending()) == 5

    asyncio.run(scenario())


def test_sqlite_refuses_impossible_rows(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sqlite(tmp_path):
            pass
        with sqlite3.connect(tmp_path / "people.db") as db, pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO accounts VALUES('i','e','n','user',-1,0,1,1,1,1,'h',NULL,0,0,0)")
        db.close()

    asyncio.run(scenario())
