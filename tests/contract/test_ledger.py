"""What every place that keeps the bank's ledger must do; on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.ledger_places import NOW, Place, deposit, new_place, on, open_url, pay
from tests.postgres import postgres

from rempart.kernel.errors import BadInput, Conflict, Denied, Unavailable, Unprocessable
from wallet.ledger import MAX_BALANCE, SOURCE, Kind, Ledger, reversal


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as conninfo:
        yield conninfo


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return new_place(request, request.param, tmp_path)


def test_money_moves_and_both_balances_tell(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        assert await ledger.balance("ann") == 0
        await ledger.transfer(deposit("ann", 1000))
        moved = await ledger.transfer(pay("ann", "bob", 300))
        assert (moved.source_balance, moved.destination_balance) == (700, 300)
        assert [await ledger.balance(who) for who in ("ann", "bob", SOURCE)] == [700, 300, -1000]
        found = await ledger.find(moved.transaction_id)
        assert found is not None
        assert (found.source, found.destination, found.amount, found.status) == ("ann", "bob", 300, "completed")
        assert [t.kind for t in await ledger.recent("ann", 10)] == [Kind.PAYMENT, Kind.DEPOSIT]
        assert [t.kind for t in await ledger.recent("ann", 1)] == [Kind.PAYMENT]
        assert await ledger.find("txn_none") is None

    on(place, play)


def test_what_was_told_is_there_after_reopening(place: Place) -> None:
    first = on(place, lambda ledger: ledger.transfer(deposit("ann", 1000, key="k")))
    assert on(place, lambda ledger: ledger.balance("ann")) == 1000
    assert on(place, lambda ledger: ledger.transfer(deposit("ann", 1000, key="k"))) == first
    assert on(place, lambda ledger: ledger.balance("ann")) == 1000


def test_the_same_key_gets_the_same_answer_and_moves_money_once(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        first = await ledger.transfer(pay("ann", "bob", 100, key="k"))
        await ledger.transfer(pay("ann", "bob", 100, key="other"))
        assert await ledger.transfer(pay("ann", "bob", 100, key="k")) == first
        assert await ledger.balance("ann") == 800
        assert len(await ledger.pending(100)) == 3

    on(place, play)


def test_the_same_key_with_another_body_is_refused(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        await ledger.transfer(pay("ann", "bob", 100, key="k"))
        for other in (pay("ann", "bob", 101, key="k"), pay("ann", "cid", 100, key="k")):
            with pytest.raises(Conflict) as refused:
                await ledger.transfer(other)
            assert refused.value.code == "idempotency_conflict"
        assert await ledger.balance("ann") == 900

    on(place, play)


def test_keys_belong_to_who_uses_them(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        await ledger.transfer(deposit("bob", 1000))
        await ledger.transfer(pay("ann", "bob", 100, key="k"))
        await ledger.transfer(pay("bob", "ann", 5, key="k"))
        assert await ledger.balance("bob") == 1095

    on(place, play)


def test_a_balance_never_goes_below_zero(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 100))
        for _ in range(2):  # the refusal is kept with its key as well
            with pytest.raises(Unprocessable) as refused:
                await ledger.transfer(pay("ann", "bob", 101, key="k"))
            assert refused.value.code == "insufficient_funds"
        await ledger.transfer(deposit("ann", 100))
        with pytest.raises(Unprocessable):
            await ledger.transfer(pay("ann", "bob", 101, key="k"))
        assert await ledger.balance("ann") == 200
        assert [e.reason for e in await ledger.pending(10)] == ["", "insufficient_funds", ""]

    on(place, play)


def test_a_balance_has_a_ceiling(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        for _ in range(MAX_BALANCE // 10**12):
            await ledger.transfer(deposit("ann", 10**12))
        with pytest.raises(Unprocessable) as refused:
            await ledger.transfer(deposit("ann", 1))
        assert refused.value.code == "balance_limit"

    on(place, play)


def test_a_rollback_is_linked_and_happens_once(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        paid = await ledger.transfer(pay("ann", "bob", 400))
        original = await ledger.find(paid.transaction_id)
        assert original is not None
        back = reversal(original, reason="mistake", now=NOW, maximum=1000, by={"person": "fin"})
        done = await ledger.transfer(back)
        assert [await ledger.balance(who) for who in ("ann", "bob")] == [1000, 0]
        again = await ledger.find(paid.transaction_id)
        linked = await ledger.find(done.transaction_id)
        assert again is not None
        assert linked is not None
        assert (again.status, linked.original, linked.reason) == ("rolled_back", paid.transaction_id, "mistake")
        with pytest.raises(Conflict) as refused:
            reversal(again, reason="mistake", now=NOW, maximum=1000, by={})
        assert refused.value.code == "already_rolled_back"
        with pytest.raises(Unprocessable):
            reversal(linked, reason="mistake", now=NOW, maximum=1000, by={})
        stale = reversal(original, reason="mistake", now=NOW, maximum=1000, by={"person": "fin"})
        with pytest.raises(Conflict) as late:
            await ledger.transfer(stale)
        assert late.value.code == "already_rolled_back"

    on(place, play)


def test_a_rollback_needs_the_receivers_money(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        paid = await ledger.transfer(pay("ann", "bob", 400))
        await ledger.transfer(pay("bob", "cid", 1))
        original = await ledger.find(paid.transaction_id)
        assert original is not None
        with pytest.raises(Unprocessable) as refused:
            await ledger.transfer(reversal(original, reason="x", now=NOW, maximum=1000, by={}))
        assert refused.value.code == "insufficient_funds"
        await ledger.transfer(deposit("bob", 1))  # and once it is there, it goes
        await ledger.transfer(reversal(original, reason="x", now=NOW, maximum=1000, by={}))

    on(place, play)


def test_events_wait_in_the_outbox_with_the_transfer_until_posted(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        moved = await ledger.transfer(deposit("ann", 5, person=None, workload="spiffe://bank.example/deposit-agent"))
        (event,) = await ledger.pending(10)
        assert event.type == "money.moved"
        assert event.id == "evt_" + moved.transaction_id.removeprefix("txn_")
        assert event.details["amount"] == 5
        await ledger.refuse(event.__class__(id="evt_x", type="money.refused", at=NOW, success=False, reason="late"))
        assert [e.id for e in await ledger.pending(10)] == [event.id, "evt_x"]
        await ledger.posted([event.id])
        await ledger.posted([event.id])
        assert [e.reason for e in await ledger.pending(10)] == ["late"]

    on(place, play)


@pytest.mark.parametrize("table", ["transfers", "entries", "requests"])
def test_nothing_is_changed_or_deleted(place: Place, table: str) -> None:
    on(place, lambda ledger: ledger.transfer(deposit("ann", 5, key="k")))
    column = "body_hash" if table == "requests" else "amount"
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises((sqlite3.Error, psycopg.Error), match="append-only"):
            place.tamper(statement)


def test_an_entry_that_does_not_continue_its_account_is_refused(place: Place) -> None:
    on(place, lambda ledger: ledger.transfer(deposit("ann", 5)))
    for seq, balance in ((2, 6), (3, 10), (1, 5)):
        with pytest.raises((sqlite3.Error, psycopg.Error)):
            place.tamper(
                f"INSERT INTO entries (account, seq, transfer, amount, balance)"
                f" SELECT 'ann', {seq}, transfer, 5, {balance} FROM entries WHERE account = 'ann'"
            )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE entries SET amount = amount + 1, balance = balance + 1 WHERE account = 'ann'", "sum to zero"),
        ("UPDATE entries SET balance = balance + 1 WHERE account = 'ann'", "isn't the sum"),
        ("UPDATE entries SET account = 'eve' WHERE account = 'ann'", "isn't its transfer's"),
        ("DELETE FROM entries WHERE account = 'ann'", "two entries"),
    ],
)
def test_examine_finds_tampering(place: Place, change: str, found: str) -> None:
    on(place, lambda ledger: ledger.transfer(deposit("ann", 5)))
    if place.url.startswith("host="):
        place.tamper("ALTER TABLE entries DISABLE TRIGGER ALL", change)
    else:
        place.tamper("DROP TRIGGER entries_keep", "DROP TRIGGER entries_stay", change)

    async def run() -> list[str]:
        ledger = await place.open()
        try:
            return list((await ledger.examine()).problems)
        finally:
            await ledger.close()

    assert any(found in problem for problem in asyncio.run(run()))


def test_orders_that_make_no_sense_are_never_made() -> None:
    for amount in (0, -1, 10**12 + 1, True, 1.0, "1", None):
        with pytest.raises(BadInput):
            pay("ann", "bob", amount)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(Unprocessable):
        pay("ann", "ann", 1)


def test_rollbacks_have_limits(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        paid = await ledger.find((await ledger.transfer(pay("ann", "bob", 400))).transaction_id)
        assert paid is not None

        def refusal(now: float = NOW, maximum: int = 1000, person: str = "fin") -> str:
            with pytest.raises(Denied) as refused:
                reversal(paid, reason="x", now=now, maximum=maximum, by={"person": person})
            return refused.value.code

        assert refusal(now=NOW + 86401) == "rollback_too_late"
        assert refusal(now=float("nan")) == "rollback_too_late"
        assert refusal(maximum=399) == "rollback_over_maximum"
        assert refusal(person="ann") == refusal(person="bob") == "own_transaction"
        assert reversal(paid, reason="x", now=NOW + 86400, maximum=400, by={}).amount == 400

    on(place, play)


def test_a_ledger_that_can_not_be_reached_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(open_url(f"host={tmp_path}/nowhere user=nobody dbname=none"))
    (tmp_path / "broken.db").write_bytes(b"this is not a database file at all, " * 100)
    with pytest.raises(Unavailable):
        asyncio.run(open_url(str(tmp_path / "broken.db")))
