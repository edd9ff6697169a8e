"""POST /payments: a person pays another, within their limit. The wallet moves the money; it takes orders from nobody
but us.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rempart.sdk import (
    BadInput,
    Body,
    Denied,
    EventSink,
    OutgoingEvent,
    Protect,
    RempartError,
    ServiceClient,
    SocketEvents,
    Unprocessable,
    Verifier,
    caller,
    idempotency_key,
    new_id,
    published_keys_verifier,
    read_json,
    requires,
)

MAX_AMOUNT = 10**12
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
log = logging.getLogger("payment")


class Payment(Body, frozen=True):
    receiver_id: str
    amount: int


class Standing(msgspec.Struct, frozen=True):
    """What people says about an account where money is concerned. `payment_limit` in cents, None for no limit."""

    exists: bool
    disabled: bool
    payment_limit: int | None = None


class Moved(msgspec.Struct, frozen=True):
    transaction_id: str
    status: str
    balances: dict[str, int]


def application() -> Protect:
    """What `python -m payment` serves, made of the environment."""
    people = ServiceClient("people")
    return protect(
        people=people,
        wallet=ServiceClient("wallet"),
        verifier=published_keys_verifier(people),
        events=SocketEvents(),
    )


def protect(*, people: ServiceClient, wallet: ServiceClient, verifier: Verifier, events: EventSink) -> Protect:
    payments = Payments(people, wallet, events)
    return Protect(Starlette(routes=[Route("/payments", payments.pay, methods=["POST"])]), verifier=verifier)


class Payments:
    def __init__(self, people: ServiceClient, wallet: ServiceClient, events: EventSink) -> None:
        self._people = people
        self._wallet = wallet
        self._events = events

    @requires(role="user")
    async def pay(self, request: Request) -> JSONResponse:
        key = idempotency_key(request.headers)
        body = await read_json(request, Payment)
        if not _ID.fullmatch(body.receiver_id):
            raise BadInput("bad_receiver", "a receiver is named by a person's id")
        if not 1 <= body.amount <= MAX_AMOUNT:
            raise BadInput("bad_amount", f"an amount is an integer from 1 to {MAX_AMOUNT}, in cents")
        payer = caller().the_person().subject
        try:
            await self._check(payer, body)
        except RempartError as error:
            if error.status < 500:
                await self._record(body, error.code)
            raise
        order = {"source": payer, "destination": body.receiver_id, "amount": body.amount}
        moved = await self._wallet.send_json("POST", "/transfers", order, Moved, headers={"idempotency-key": key})
        answer = {"transaction_id": moved.transaction_id, "status": moved.status, "balance": moved.balances[payer]}
        return JSONResponse(answer, 201)

    async def _check(self, payer: str, body: Payment) -> None:
        """Raises Denied `account_disabled` | `limit_exceeded`, Unprocessable `same_account` | `unknown_receiver`."""
        if body.receiver_id == payer:
            raise Unprocessable("same_account", "nobody can pay themselves")
        own, theirs = await asyncio.gather(
            *(self._people.get_json(f"/accounts/{who}/payment", Standing) for who in (payer, body.receiver_id))
        )
        if own.disabled or not own.exists:
            raise Denied("account_disabled", "this account is disabled")
        if own.payment_limit is not None and body.amount > own.payment_limit:
            raise Denied("limit_exceeded", f"the limit of this account is {own.payment_limit} cents per payment")
        if theirs.disabled or not theirs.exists:
            raise Unprocessable("unknown_receiver", "there is no such receiver")

    async def _record(self, body: Payment, code: str) -> None:
        who = caller()
        event = OutgoingEvent(
            id=new_id("evt"),
            type="money.refused",
            at=time.time(),
            success=False,
            reason=code,
            person=who.the_person().subject,
            role=who.the_person().role,
            workload=str(who.workload),
            request_id=who.request_id,
            details={"kind": "payment", "to": body.receiver_id, "amount": body.amount},
        )
        try:
            await self._events.post([event])
        except RempartError as error:
            # Nothing is granted here, and the decision that let the request in is on record already.
            log.error("a refusal is not on record: %s", error.reason)
