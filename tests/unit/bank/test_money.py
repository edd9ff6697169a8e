"""Wallet and payment together: F2 to F5 and F7, allowed and refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.bank_support import AGENT, PAYMENT, Bank, code, play
from tests.sdk_support import GATEWAY, headers


def test_a_payment_end_to_end(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        put = await bank.deposit("ann", 1000)
        assert put.status_code == 201
        assert set(put.json()) == {"transaction_id", "status"}
        paid = await bank.pay("ann", "bob", 300)
        assert paid.status_code == 201
        assert paid.json()["balance"] == 700
        mine = await bank.show("ann")
        assert (mine["balance"], mine["currency"], mine["user_id"]) == (700, "EUR", "ann")
        assert [(t["kind"], t["from"], t["to"], t["amount"], t["status"]) for t in mine["transactions"]] == [
            ("payment", "ann", "bob", 300, "completed"),
            ("deposit", "system:deposits", "ann", 1000, "completed"),
        ]
        assert mine["transactions"][0]["at"] == "2027-01-15T08:00:00.000Z"
        assert (await bank.show("bob"))["balance"] == 300
        async with asyncio.timeout(5):
            while len(bank.events.posted) < 2:
                await asyncio.sleep(0.005)
        moved = bank.events.posted[1]
        assert (moved.type, moved.success, moved.person, moved.workload) == ("money.moved", True, "ann", PAYMENT)
        assert moved.details["transaction_id"] == paid.json()["transaction_id"]

    play(tmp_path, body)


def test_a_retried_payment_is_the_same_payment(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)
        first = await bank.pay("ann", "bob", 300, key="k")
        again = await bank.pay("ann", "bob", 300, key="k")
        assert (again.status_code, again.json()) == (201, first.json())
        assert code(await bank.pay("ann", "bob", 301, key="k")) == (409, "idempotency_conflict")
        assert (await bank.show("ann"))["balance"] == 700
        # another person's equal key is another key
        assert (await bank.pay("bob", "ann", 1, key="k")).status_code == 201

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("who", "to", "amount", "role", "refusal"),
    [
        ("ann", "bob", 5001, "user", (403, "limit_exceeded")),
        ("ann", "bob", 1001, "user", (422, "insufficient_funds")),
        ("ann", "ann", 1, "user", (422, "same_account")),
        ("ann", "nobody", 1, "user", (422, "unknown_receiver")),
        ("ann", "eve", 1, "user", (422, "unknown_receiver")),
        ("eve", "ann", 1, "user", (403, "account_disabled")),
        ("ghost", "ann", 1, "user", (403, "account_disabled")),
        ("ann", "bob", 1, "admin", (403, "role_required")),
        ("ann", "bob", 1, "finance", (403, "role_required")),
        ("ann", "bob", 1, "", (403, "role_required")),
        ("ann", "system:deposits", 1, "user", (400, "bad_receiver")),
        ("ann", "../bob", 1, "user", (400, "bad_receiver")),
        ("ann", "bob/../eve", 1, "user", (400, "bad_receiver")),
        ("ann", "", 1, "user", (400, "bad_receiver")),
        ("ann", "b" * 65, 1, "user", (400, "bad_receiver")),
        ("ann", "ｂｏｂ", 1, "user", (400, "bad_receiver")),
        ("ann", "bob\n", 1, "user", (400, "bad_receiver")),
        ("ann", "bob", 0, "user", (400, "bad_amount")),
        ("ann", "bob", -1, "user", (400, "bad_amount")),
        ("ann", "bob", 10**12 + 1, "user", (400, "bad_amount")),
        ("ann", "bob", 2**63, "user", (400, "bad_amount")),
        ("ann", "bob", 10**400, "user", (400, "bad_amount")),
        ("ann", "bob", 1.0, "user", (400, "bad_body")),
        ("ann", "bob", 1e300, "user", (400, "bad_body")),
        ("ann", "bob", "1", "user", (400, "bad_body")),
        ("ann", "bob", "١", "user", (400, "bad_body")),
        ("ann", "bob", True, "user", (400, "bad_body")),
        ("ann", "bob", None, "user", (400, "bad_body")),
        ("ann", "bob", [1], "user", (400, "bad_body")),
        ("ann", None, 1, "user", (400, "bad_body")),
    ],
)
def test_payments_that_are_refused(
    tmp_path: Path, who: str, to: Any, amount: Any, role: str, refusal: tuple[int, str]
) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)
        assert code(await bank.pay(who, to, amount, role=role)) == refusal
        assert (await bank.show("ann"))["balance"] == 1000
        if refusal[1] in ("limit_exceeded", "unknown_receiver", "account_disabled"):
            assert ("money.refused", refusal[1]) in [(event.type, event.reason) for event in bank.events.posted]

    play(tmp_path, body)


def test_a_wallet_emptied_fifty_times_at_once(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)
        answers = await asyncio.gather(*(bank.pay("ann", "bob", 1000) for _ in range(50)))
        assert sorted(answer.status_code for answer in answers) == [201] + [422] * 49
        assert (await bank.show("bob"))["balance"] == 1000

    play(tmp_path, body)


@pytest.mark.parametrize(
    "workload", [GATEWAY, AGENT, "spiffe://bank.example/users", "spiffe://partner.example/payment"]
)
def test_only_payment_orders_transfers(tmp_path: Path, workload: str) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)
        given = [*headers("ann", workload=workload), ("idempotency-key", "k")]
        order = {"source": "ann", "destination": "bob", "amount": 1}
        assert code(await bank.wallet.post("/transfers", headers=given, json=order)) == (403, "workload_required")

    play(tmp_path, body)


def test_payment_takes_only_from_who_asks(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)

        async def transfer(who: str, source: str) -> tuple[int, str]:
            given = [*headers(who, workload=PAYMENT), ("idempotency-key", "k")]
            order = {"source": source, "destination": "bob", "amount": 1}
            return code(await bank.wallet.post("/transfers", headers=given, json=order))

        assert await transfer("cid", "ann") == (403, "not_your_wallet")
        assert await transfer("", "ann") == (401, "token_required")
        assert await transfer("cid", "system:deposits") == (400, "bad_account")
        async with asyncio.timeout(5):
            while not any(event.reason == "not_your_wallet" for event in bank.events.posted):
                await asyncio.sleep(0.005)

    play(tmp_path, body)


@pytest.mark.parametrize("workload", [GATEWAY, PAYMENT, "spiffe://partner.example/deposit-agent", AGENT + "2"])
def test_only_the_agent_deposits(tmp_path: Path, workload: str) -> None:
    async def body(bank: Bank) -> None:
        assert code(await bank.deposit("ann", 1, workload=workload)) == (403, "workload_required")

    play(tmp_path, body)


def test_deposits(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        first = await bank.deposit("ann", 10, key="k")
        assert (await bank.deposit("ann", 10, key="k")).json() == first.json()
        assert code(await bank.deposit("ann", 11, key="k")) == (409, "idempotency_conflict")
        assert code(await bank.deposit("nobody", 10)) == (422, "unknown_receiver")
        assert code(await bank.deposit("eve", 10)) == (422, "unknown_receiver")
        assert code(await bank.deposit("system:deposits", 10)) == (400, "bad_account")
        assert code(await bank.deposit("ann", 0)) == (400, "bad_amount")
        no_key = await bank.wallet.post("/deposit", headers=headers(workload=AGENT), json={})
        assert code(no_key) == (400, "idempotency_key_required")
        bank.people.down = True
        assert code(await bank.deposit("ann", 10)) == (503, "upstream_failed")
        assert (await bank.show("ann"))["balance"] == 10

    play(tmp_path, body)


def test_people_see_their_own_wallet_only(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        for query in ("user_id=bob", "user_id=ann&user_id=bob"):
            assert (await bank.wallet.get(f"/wallet?{query}", headers=headers("ann"))).status_code in (400, 403)
        for query in ("", "user_id=", "user_id=%00", "user_id=ann%0a", "user_id=%ff"):
            assert code(await bank.wallet.get(f"/wallet?{query}", headers=headers("ann"))) == (400, "bad_query")
        assert code(await bank.wallet.get("/wallet?user_id=ann", headers=headers())) == (401, "token_required")

    play(tmp_path, body)


def test_rolling_back(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 100_000)
        paid = (await bank.pay("ann", "bob", 300)).json()["transaction_id"]
        done = await bank.roll_back(paid)
        assert done.status_code == 200
        assert (done.json()["transaction_id"], done.json()["status"]) == (paid, "rolled_back")
        assert (await bank.show("ann"))["balance"] == 100_000
        assert code(await bank.roll_back(paid)) == (409, "already_rolled_back")
        assert code(await bank.roll_back(done.json()["rollback_id"])) == (422, "not_reversible")
        assert code(await bank.roll_back("txn_none")) == (404, "no_such_transaction")
        assert code(await bank.roll_back("a'b")) == (404, "no_such_transaction")
        spent = (await bank.pay("ann", "bob", 10)).json()["transaction_id"]
        await bank.pay("bob", "ann", 10)
        assert code(await bank.roll_back(spent)) == (422, "insufficient_funds")
        own = (await bank.pay("ann", "bob", 10)).json()["transaction_id"]
        assert code(await bank.roll_back(own, who="bob")) == (403, "own_transaction")
        bank.clock[0] += 86_401
        assert code(await bank.roll_back(own)) == (403, "rollback_too_late")
        bank.people.accounts["ann"]["payment_limit"] = None
        much = (await bank.pay("ann", "bob", 10_001)).json()["transaction_id"]
        assert code(await bank.roll_back(much)) == (403, "rollback_over_maximum")
        for reason in ("", "  ", "x" * 501, "a\nb", "a\x00b"):
            assert code(await bank.roll_back(own, reason=reason)) == (400, "bad_reason")
        assert code(await bank.roll_back(own, reason=7)) == (400, "bad_body")
        for role in ("user", "admin", "audit"):
            refused = await bank.wallet.post(f"/transactions/{own}/rollback", headers=headers("x", role), json={})
            assert code(refused) == (403, "role_required")
        async with asyncio.timeout(5):
            while "rollback_too_late" not in [event.reason for event in bank.events.posted]:
                await asyncio.sleep(0.005)
        assert "money.rolled_back" in [event.type for event in bank.events.posted]

    play(tmp_path, body)


def test_finance_pages_through_transactions(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        for number in range(7):
            bank.clock[0] += 10
            await bank.deposit("ann" if number % 2 else "bob", number + 1)

        async def ask(query: str, role: str = "finance") -> Any:
            answer = await bank.wallet.get(f"/transactions?{query}", headers=headers("fin", role))
            return answer.json() if answer.status_code == 200 else code(answer)

        page = await ask("limit=3")
        assert [t["amount"] for t in page["transactions"]] == [1, 2, 3]
        page = await ask(f"limit=3&since={page['next']}")
        assert [t["amount"] for t in page["transactions"]] == [4, 5, 6]
        page = await ask(f"limit=3&since={page['next']}")
        assert [t["amount"] for t in page["transactions"]] == [7]
        assert "next" not in page
        assert [t["amount"] for t in (await ask("user_id=ann"))["transactions"]] == [2, 4, 6]
        for since in ("1800000060", "2027-01-15T08:01:00Z", "2027-01-15T09:01:00%2B01:00", "2027-01-15T08:01:00"):
            assert [t["amount"] for t in (await ask(f"since={since}"))["transactions"]] == [6, 7], since
        for bad in (
            *("limit=0", "limit=501", "limit=-1", "limit=1.5", "limit=x", "limit=1&limit=2"),
            *("since=yesterday", "since=9999-99-99", "since=after-x-1", "since=after-1-1%00", "since=0000-00-00T00:00"),
            "user_id=%27",
        ):
            assert await ask(bad) == (400, "bad_query"), bad
        assert await ask("", "user") == (403, "role_required")

    play(tmp_path, body)


def test_when_people_is_down_nothing_moves(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        await bank.deposit("ann", 1000)
        bank.people.down = True
        assert code(await bank.pay("ann", "bob", 1)) == (503, "upstream_failed")
        assert (await bank.show("ann"))["balance"] == 1000

    play(tmp_path, body)


def test_a_refusal_is_told_even_when_it_can_not_be_put_on_record(tmp_path: Path) -> None:
    async def body(bank: Bank) -> None:
        bank.events.down = True
        assert code(await bank.pay("ann", "bob", 5001)) == (403, "limit_exceeded")

    play(tmp_path, body)
