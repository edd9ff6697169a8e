"""What every store of factors must do; run on each database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.people_stores import fresh_database, postgres_server

from rempart.backends import sql_accounts, sql_factors
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_factors import SqlFactors
from rempart.kernel.errors import Conflict, NotFound
from rempart.kernel.event import Event, EventType
from rempart.people.factors.model import REMOVE_ALL, Change, Passkey
from rempart.people.model import GONE, Account, Credentials

__all__ = ["postgres_server"]  # a fixture
Scenario = Callable[[SqlFactors, SqlAccounts], Coroutine[Any, Any, None]]
ANN = Account(
    id="usr_ann",
    email="ann@bank.example",
    name="Ann",
    role="user",
    payment_limit=None,
    disabled=False,
    second_factor=False,
    version=1,
    epoch=1,
    created_at=1.0,
    updated_at=1.0,
)


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def runner(scenario: Scenario) -> None:
        async def body() -> None:
            schema = (*sql_accounts.SCHEMA, *sql_factors.SCHEMA)
            async with fresh_database(request, request.param, schema) as database:
                accounts = SqlAccounts(database)
                await accounts.add(ANN, Credentials("$hash"), told())
                await scenario(SqlFactors(database), accounts)

        asyncio.run(body())

    return runner


def told() -> Event:
    return Event(type=EventType.FACTOR_CHANGED, at=1.0, success=True)


def next_of(account: Account, steps: int = 1) -> Account:
    return replace(account, version=account.version + steps, epoch=account.epoch + steps, updated_at=2.0)


def passkey(number: int = 1, **more: Any) -> Passkey:
    values = {"counter": 0, "synced": True, "name": "phone \N{GRINNING FACE}", "transports": ("internal", "hybrid")}
    return Passkey(
        id=f"psk_{number}",
        account_id=ANN.id,
        credential_id=b"\x00\xff" * number,
        public_key=b"\xa5\x00",
        created_at=float(number),
        **{**values, **more},
    )


def test_what_was_written_is_read(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        change = Change(add_passkey=passkey(), totp=(b"sealed", 7), backup_codes=(b"a" * 32, b"b" * 32))
        event = told()
        await store.change(next_of(ANN), replace(change, password_hash="$new", short_password=True), event)
        held = await store.held(ANN.id)
        assert (held.passkeys, held.backup_codes, held.short_password) == ((passkey(),), 2, True)
        assert await store.by_credential(passkey().credential_id) == passkey()
        assert await store.by_credential(b"other") is None
        found = await accounts.by_email(ANN.email)
        assert found is not None
        assert (found[0].version, found[0].epoch, found[0].updated_at, found[0].second_factor) == (2, 2, 2.0, True)
        assert found[1] == Credentials("$new", b"sealed")
        assert event.id in [waiting.id for waiting in await accounts.pending()]
        assert not await accounts.use_step(ANN.id, 7)  # the code that confirmed the app
        assert await accounts.use_step(ANN.id, 8)
        nobody = await store.held("usr_nobody")
        assert (nobody.passkeys, nobody.backup_codes, nobody.short_password) == ((), 0, False)

    run(scenario)


def test_all_or_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        before = await accounts.pending()
        with pytest.raises(Conflict) as stale:
            await store.change(next_of(ANN, 2), Change(add_passkey=passkey(), backup_codes=(b"a",)), told())
        assert stale.value.code == "stale_version"
        with pytest.raises(NotFound):
            await store.change(next_of(ANN), Change(remove_passkey="psk_9", backup_codes=(b"a",)), told())
        await store.change(next_of(ANN), Change(add_passkey=passkey()), told())
        twice = replace(passkey(2), credential_id=passkey().credential_id)
        with pytest.raises(Conflict) as known:
            await store.change(next_of(ANN, 2), Change(add_passkey=twice, backup_codes=(b"a",)), told())
        assert known.value.code == "passkey_known"
        held = await store.held(ANN.id)
        assert (len(held.passkeys), held.backup_codes) == (1, 0)
        assert len(await accounts.pending()) == len(before) + 1

    run(scenario)


def test_removing_one_and_removing_all(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        await store.change(next_of(ANN), Change(add_passkey=passkey(1), totp=(b"sealed", 7)), told())
        await store.change(next_of(ANN, 2), Change(add_passkey=passkey(2), backup_codes=(b"a", b"b")), told())
        await store.change(next_of(ANN, 3), Change(remove_passkey="psk_1", short_password=True), told())
        assert [key.id for key in (await store.held(ANN.id)).passkeys] == ["psk_2"]
        await store.change(next_of(ANN, 4), REMOVE_ALL, told())
        held = await store.held(ANN.id)
        assert (held.passkeys, held.backup_codes, held.short_password) == ((), 0, True)
        found = await accounts.by_email(ANN.email)
        assert found is not None
        assert found[1].totp is None
        await store.change(next_of(ANN, 5), Change(short_password=False), told())
        assert not (await store.held(ANN.id)).short_password

    run(scenario)


def test_another_accounts_passkey_is_neither_removed_nor_renamed(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        bob = replace(ANN, id="usr_bob", email="bob@bank.example")
        await accounts.add(bob, Credentials("$hash"), told())
        await store.change(next_of(ANN), Change(add_passkey=passkey()), told())
        with pytest.raises(NotFound):
            await store.change(next_of(bob), Change(remove_passkey="psk_1"), told())
        assert not await store.rename_passkey(bob.id, "psk_1", "mine")
        assert await store.rename_passkey(ANN.id, "psk_1", "work")
        assert [key.name for key in (await store.held(ANN.id)).passkeys] == ["work"]

    run(scenario)


def test_a_backup_code_is_spent_once_whoever_races(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        await store.change(next_of(ANN), Change(backup_codes=(b"a" * 32, b"b" * 32)), told())
        spent = await asyncio.gather(*(store.spend_backup_code(ANN.id, b"a" * 32) for _ in range(10)))
        assert sorted(spent) == [False] * 9 + [True]
        assert not await store.spend_backup_code("usr_bob", b"b" * 32)
        assert (await store.held(ANN.id)).backup_codes == 1

    run(scenario)


def test_an_erased_account_has_nothing_left(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        bob = replace(ANN, id="usr_bob", email="bob@bank.example")
        await accounts.add(bob, Credentials("$hash"), told())
        change = Change(add_passkey=passkey(), totp=(b"sealed", 1), backup_codes=(b"a",), short_password=True)
        await store.change(next_of(ANN), change, told())
        await store.change(next_of(bob), replace(change, add_passkey=replace(passkey(2), account_id=bob.id)), told())
        account = await accounts.get(ANN.id)
        assert account is not None
        assert account.second_factor
        email = f"{ANN.id}@{GONE}"
        await accounts.replace(replace(account, email=email, disabled=True, version=3), told())
        await store.forget_erased()
        held = await store.held(ANN.id)
        assert (held.passkeys, held.backup_codes) == ((), 0)
        found = await accounts.by_email(email)
        assert found is not None
        assert found[1].totp is None
        assert len((await store.held(bob.id)).passkeys) == 1

    run(scenario)


def test_a_passkey_is_a_second_factor(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        async def has_factor() -> bool:
            account = await accounts.get(ANN.id)
            assert account is not None
            return account.second_factor

        assert not await has_factor()
        await store.change(next_of(ANN), Change(add_passkey=passkey()), told())
        assert await has_factor()
        await store.change(next_of(ANN, 2), Change(remove_passkey="psk_1"), told())
        assert not await has_factor()

    run(scenario)


def test_a_password_that_others_set_is_no_short_one_any_more(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        await store.change(next_of(ANN), Change(password_hash="$short", short_password=True), told())
        account = await accounts.get(ANN.id)
        assert account is not None
        await accounts.set_credentials(account, "$the same hashed again", None, None)
        assert (await store.held(ANN.id)).short_password
        await accounts.set_credentials(next_of(account), "$long", None, told())
        assert not (await store.held(ANN.id)).short_password

    run(scenario)


def test_a_counter_only_grows_and_zero_stays_zero(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: SqlFactors, accounts: SqlAccounts) -> None:
        await store.change(next_of(ANN), Change(add_passkey=passkey()), told())
        assert [await store.advance("psk_1", counter, 5.0) for counter in (0, 0, 3, 3, 2, 0, 4)] == [
            *(True, True, True, False, False, False, True)
        ]
        raced = await asyncio.gather(*(store.advance("psk_1", 9, 6.0) for _ in range(10)))
        assert sorted(raced) == [False] * 9 + [True]
        kept = await store.by_credential(passkey().credential_id)
        assert kept is not None
        assert (kept.counter, kept.last_used_at) == (9, 6.0)
        assert not await store.advance("psk_9", 1, 7.0)

    run(scenario)
