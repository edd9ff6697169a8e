"""What the wallet answers. Each handler reads strictly, asks the ledger, and tells."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

from rempart.sdk import (
    BadInput,
    Body,
    Caller,
    Denied,
    NotFound,
    OutgoingEvent,
    RempartError,
    ServiceClient,
    Unprocessable,
    Workload,
    caller,
    idempotency_key,
    new_id,
    one,
    read_json,
    requires,
)

from .ledger import CURRENCY, MAX_AMOUNT, SOURCE, Kind, Ledger, Order, Outcome, Transaction, order, reversal

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LIMIT = re.compile(r"[1-9][0-9]{0,2}")
_SINCE = re.compile(r"after-[0-9]{1,18}-[0-9]{1,18}|[0-9]{1,12}|[0-9]{4}-[0-9:.TZ+-]{4,30}")
_HISTORY = 50
_MAX_PAGE = 500


class Deposit(Body, frozen=True):
    receiver_id: str
    amount: int


class Transfer(Body, frozen=True):
    source: str
    destination: str
    amount: int


class Rollback(Body, frozen=True):
    reason: str


class Standing(msgspec.Struct, frozen=True):
    """What people says about an account where money is concerned."""

    exists: bool
    disabled: bool


class Api:
    """One per process. `open` is called when the ledger is there, before the first request."""

    def __init__(
        self, me: Workload, people: ServiceClient, *, rollback_maximum: int, now: Callable[[], float] = time.time
    ) -> None:
        self.wake = asyncio.Event()
        self._people = people
        self._rollback_maximum = rollback_maximum
        self._now = now
        self.deposit = requires(workload=me.sibling("deposit-agent"))(self._deposit)
        self.transfer = requires(workload=me.sibling("payment"))(self._transfer)
        self.transactions = requires(role="finance")(self._transactions)
        self.rollback = requires(role="finance")(self._rollback)

    def open(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def show(self, request: Request) -> JSONResponse:
        """A person's own wallet."""
        user_id = one(request.query_params.multi_items(), "user_id", _ID)
        if caller().the_person().subject != user_id:
            raise Denied("not_your_wallet", "people see their own wallet only")
        # The history first: what is booked in between shows in the balance at the latest, and never money without its
        # source.
        recent = await self._ledger.recent(user_id, _HISTORY)
        balance = await self._ledger.balance(user_id)
        return JSONResponse(
            {
                "user_id": user_id,
                "currency": CURRENCY,
                "balance": balance,
                "transactions": [_shown(transaction) for transaction in recent],
            }
        )

    async def _deposit(self, request: Request) -> JSONResponse:
        who, key = caller(), idempotency_key(request.headers)
        body = await read_json(request, Deposit)
        receiver = _person(body.receiver_id)
        made = _checked(
            kind=Kind.DEPOSIT, source=SOURCE, destination=receiver, amount=body.amount, key=key, **self._by(who)
        )
        await self._must_exist(receiver)
        outcome = await self._transfer_money(made)
        return JSONResponse({"transaction_id": outcome.transaction_id, "status": "completed"}, 201)

    async def _transfer(self, request: Request) -> JSONResponse:
        who, key = caller(), idempotency_key(request.headers)
        body = await read_json(request, Transfer)
        source, destination = _person(body.source), _person(body.destination)
        made = _checked(
            kind=Kind.PAYMENT, source=source, destination=destination, amount=body.amount, key=key, **self._by(who)
        )
        if who.the_person().subject != source:
            await self._record_refusal(made, "not_your_wallet")
            raise Denied("not_your_wallet", "money is taken from the wallet of the person who asks, and from no other")
        outcome = await self._transfer_money(made)
        balances = {source: outcome.source_balance, destination: outcome.destination_balance}
        return JSONResponse(
            {"transaction_id": outcome.transaction_id, "status": "completed", "balances": balances}, 201
        )

    async def _transactions(self, request: Request) -> JSONResponse:
        items = request.query_params.multi_items()
        user_id = one(items, "user_id", _ID, default="") or None
        limit = int(one(items, "limit", _LIMIT, default="100"))
        if limit > _MAX_PAGE:
            raise BadInput("bad_query", f"limit is at most {_MAX_PAGE}")
        since, after = _since(one(items, "since", _SINCE, default=""))
        page = await self._ledger.transactions(user_id, since, after, limit)
        document: dict[str, Any] = {"transactions": [_shown(transaction) for transaction in page.transactions]}
        if page.next:
            document["next"] = page.next
        return JSONResponse(document)

    async def _rollback(self, request: Request) -> JSONResponse:
        who = caller()
        body = await read_json(request, Rollback)
        if not (1 <= len(body.reason.strip()) <= 500 and body.reason.isprintable()):
            raise BadInput("bad_reason", "a reason has 1 to 500 printable characters")
        identifier = request.path_params["id"]
        original = await self._ledger.find(identifier) if _ID.fullmatch(identifier) else None
        if original is None:
            raise NotFound("no_such_transaction", "there is no transaction with this id")
        by = self._by(who)
        now = by.pop("at")
        del by["scope"]
        try:
            made = reversal(original, reason=body.reason, now=now, maximum=self._rollback_maximum, by=by)
        except RempartError as error:
            details = {"transaction_id": original.id, "amount": original.amount, "reason": body.reason}
            await self._put_on_record(who, "rollback", error.code, details)
            raise
        outcome = await self._transfer_money(made)
        return JSONResponse(
            {"transaction_id": original.id, "rollback_id": outcome.transaction_id, "status": "rolled_back"}
        )

    async def _transfer_money(self, made: Order) -> Outcome:
        try:
            return await self._ledger.transfer(made)
        finally:
            self.wake.set()

    async def _must_exist(self, receiver: str) -> None:
        standing = await self._people.get_json(f"/accounts/{receiver}/payment", Standing)
        if standing.disabled or not standing.exists:
            raise Unprocessable("unknown_receiver", "there is no such receiver")

    async def _record_refusal(self, made: Order, code: str) -> None:
        details = {"from": made.source, "to": made.destination, "amount": made.amount}
        await self._put_on_record(caller(), str(made.kind), code, details)

    async def _put_on_record(self, who: Caller, kind: str, code: str, details: dict[str, Any]) -> None:
        event = OutgoingEvent(
            id=new_id("evt"),
            type="money.refused",
            at=self._now(),
            success=False,
            reason=code,
            person=who.person.subject if who.person else None,
            role=who.person.role if who.person else None,
            workload=str(who.workload),
            request_id=who.request_id,
            details={"kind": kind, **details},
        )
        await self._ledger.refuse(event)
        self.wake.set()

    def _by(self, who: Caller) -> dict[str, Any]:
        person = who.person
        return {
            "at": self._now(),
            "scope": f"{who.workload} {person.subject if person else ''}",
            "person": person.subject if person else None,
            "role": person.role if person else None,
            "workload": str(who.workload),
            "request_id": who.request_id,
        }


def _person(identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise BadInput("bad_account", "an account is named by a person's id")
    return identifier


def _checked(**fields: Any) -> Order:
    if not 1 <= fields["amount"] <= MAX_AMOUNT:
        raise BadInput("bad_amount", f"an amount is an integer from 1 to {MAX_AMOUNT}, in cents")
    return order(**fields)


def _since(text: str) -> tuple[float, str]:
    """A time (RFC 3339, or seconds since the epoch), or the `next` of a page before."""
    if text.startswith("after-"):
        return 0.0, text
    if not text or text.isdigit():
        return float(text or 0), ""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), ""
    except (ValueError, OverflowError):
        raise BadInput("bad_query", "`since` is neither a time nor the `next` of a page before") from None


def _shown(transaction: Transaction) -> dict[str, Any]:
    stamp = datetime.fromtimestamp(transaction.at, UTC)
    document: dict[str, Any] = {
        "id": transaction.id,
        "kind": str(transaction.kind),
        "from": transaction.source,
        "to": transaction.destination,
        "amount": transaction.amount,
        "status": transaction.status,
        "at": stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if transaction.original:
        document["original_id"] = transaction.original
    return document
