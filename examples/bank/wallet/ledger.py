"""The rules of the ledger, and what a place to keep it must promise. Pure: no I/O, no clock.

Amounts are integers in minor units. A transfer takes from one account and gives to another: its two entries sum to
zero, and each entry carries the balance after it, so that an account's history proves its balance. Nothing is ever
changed or deleted; what was wrong is put right by a transfer back that names the one it reverses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from rempart.sdk import BadInput, Conflict, Denied, Outbox, OutgoingEvent, RempartError, Unprocessable, new_id

CURRENCY = "EUR"
# Where deposited money comes from: the only account that may be negative. No person's id has a colon.
SOURCE = "system:deposits"
MAX_AMOUNT = 10**12
MAX_BALANCE = 10**15  # far from 2^53, so that every JSON reader keeps it exact
ROLLBACK_WINDOW = 24 * 3600.0


class Kind(StrEnum):
    DEPOSIT = "deposit"
    PAYMENT = "payment"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A transfer that somebody asks for.

    `scope` is who asks (their keys are their own), `key` their idempotency key, empty for none. `original` is the
    transaction that a rollback reverses. `at` in seconds since the epoch. `person`, `role`, `workload`, `request_id`
    are for the record.
    """

    kind: Kind
    source: str
    destination: str
    amount: int
    at: float
    transaction_id: str
    scope: str = ""
    key: str = ""
    original: str | None = None
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    request_id: str | None = None

    def body_hash(self) -> str:
        """What must be the same when a key is used again."""
        body = [self.kind, self.source, self.destination, self.amount, self.original]
        return hashlib.sha256(msgspec.json.encode(body)).hexdigest()


def order(**fields: Any) -> Order:
    """An Order with a fresh transaction id; raises BadInput `bad_amount` or `same_account`."""
    made = Order(transaction_id=new_id("txn"), **fields)
    if type(made.amount) is not int or not 1 <= made.amount <= MAX_AMOUNT:
        raise BadInput("bad_amount", f"an amount is an integer from 1 to {MAX_AMOUNT}, in cents")
    if made.source == made.destination:
        raise Unprocessable("same_account", "the money would come back to where it is")
    return made


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an order, kept with its key: the same question gets the same answer. `refused` is a code, or
    empty.
    """

    transaction_id: str
    at: float
    source_balance: int = 0
    destination_balance: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """As people see it. `status` is `completed`, or `rolled_back` once another transaction reversed it."""

    id: str
    kind: Kind
    source: str
    destination: str
    amount: int
    status: str
    at: float
    original: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """`next` continues where this page ends; empty at the end."""

    transactions: Sequence[Transaction]
    next: str = ""


@dataclass(frozen=True, slots=True)
class Soundness:
    """What an examination of the whole ledger found; `problems` is empty when it is sound."""

    transactions: int
    total: int
    problems: Sequence[str]


class Ledger(Outbox, Protocol):
    """Keeps the transfers. Safe to use from many tasks of one event loop.

    An order and the event that tells of it are durable (on disk, not in a cache) when `transfer` returns, both or
    neither. Orders on the same account take place one after the other. Every method raises Unavailable
    `ledger_unavailable` when the store fails; nothing has happened then, or the key tells on the next try what has.
    """

    async def transfer(self, order: Order) -> Outcome:
        """Raises Unprocessable `insufficient_funds` | `balance_limit`, Conflict `idempotency_conflict` |
        `already_rolled_back`.
        """

    async def balance(self, account: str) -> int:
        """0 for an account that nothing happened to."""

    async def find(self, transaction_id: str) -> Transaction | None: ...

    async def recent(self, account: str, limit: int) -> Sequence[Transaction]:
        """The newest first."""

    async def transactions(self, account: str | None, since: float, after: str, limit: int) -> Page:
        """The oldest first, from `since` on; `after` is the `next` of the page before. Raises BadInput `bad_query`."""

    async def refuse(self, event: OutgoingEvent) -> None:
        """Keep the record of a movement that was refused before it came to an order."""

    async def examine(self) -> Soundness: ...

    async def close(self) -> None: ...


_NEXT = re.compile(r"after-([0-9]{1,18})-([0-9]{1,18})")


def position(after: str) -> tuple[int, int]:
    """What the `next` of a page stands for; the beginning when empty. Raises BadInput `bad_query`."""
    if not after:
        return 0, 0
    found = _NEXT.fullmatch(after)
    if found is None:
        raise BadInput("bad_query", "`since` is neither a time nor the `next` of a page before")
    return int(found[1]), int(found[2])


def judge(order: Order, source_balance: int, destination_balance: int, *, reversed_already: bool) -> str:
    """The code under which the order is refused, or empty."""
    if reversed_already:
        return "already_rolled_back"
    if order.source != SOURCE and source_balance < order.amount:
        return "insufficient_funds"
    if order.destination != SOURCE and destination_balance + order.amount > MAX_BALANCE:
        return "balance_limit"
    return ""


_REFUSALS: dict[str, tuple[type[RempartError], str]] = {
    "insufficient_funds": (Unprocessable, "there is not enough money in the wallet"),
    "balance_limit": (Unprocessable, "the wallet would hold more than it may"),
    "already_rolled_back": (Conflict, "this transaction was rolled back before"),
    "idempotency_conflict": (Conflict, "this Idempotency-Key was used with another body"),
}


def told(outcome: Outcome) -> Outcome:
    """The outcome, or the error that it stands for."""
    if not outcome.refused:
        return outcome
    kind, reason = _REFUSALS[outcome.refused]
    remedy = "use a fresh key for a new payment" if outcome.refused == "idempotency_conflict" else ""
    raise kind(outcome.refused, reason, remedy)


def reversal(original: Transaction, *, reason: str, now: float, maximum: int, by: dict[str, str | None]) -> Order:
    """The order that undoes `original`.

    Raises Unprocessable `not_reversible`, Conflict `already_rolled_back`, Denied `rollback_too_late` |
    `rollback_over_maximum` | `own_transaction`.
    """
    if original.kind is Kind.ROLLBACK:
        raise Unprocessable("not_reversible", "a rollback can't be rolled back")
    if original.status != "completed":
        raise Conflict("already_rolled_back", _REFUSALS["already_rolled_back"][1])
    if by.get("person") in (original.source, original.destination):
        raise Denied("own_transaction", "nobody rolls back a transaction of their own", "ask a colleague")
    if not now - original.at <= ROLLBACK_WINDOW:
        raise Denied("rollback_too_late", "only transactions of the last 24 hours can be rolled back")
    if original.amount > maximum:
        raise Denied("rollback_over_maximum", f"more than {maximum} can't be rolled back")
    return order(
        kind=Kind.ROLLBACK,
        source=original.destination,
        destination=original.source,
        amount=original.amount,
        original=original.id,
        reason=reason,
        at=now,
        **by,
    )


def event_of(order: Order, refused: str) -> OutgoingEvent:
    """What the audit trail keeps of an order; the same id whenever the same fact is posted."""
    details: dict[str, Any] = {
        "transaction_id": order.transaction_id,
        "kind": str(order.kind),
        "from": order.source,
        "to": order.destination,
        "amount": order.amount,
        "currency": CURRENCY,
    }
    if order.original:
        details["original"] = order.original
    if order.reason:
        details["reason"] = order.reason
    kind = "money.refused" if refused else "money.rolled_back" if order.kind is Kind.ROLLBACK else "money.moved"
    return OutgoingEvent(
        id="evt_" + order.transaction_id.partition("_")[2],
        type=kind,
        at=order.at,
        success=not refused,
        reason=refused,
        person=order.person,
        role=order.role,
        workload=order.workload,
        request_id=order.request_id,
        details=details,
    )
