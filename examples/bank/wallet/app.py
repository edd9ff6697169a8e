"""The wallet's HTTP face: the policy decided before, and who may do what is checked here once more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from rempart.sdk import (
    EventSink,
    Metrics,
    Protect,
    ServiceClient,
    SocketEvents,
    Unavailable,
    Verifier,
    Workload,
    published_keys_verifier,
    relay,
)

from .api import Api
from .ledger import Ledger

DEFAULT_ROLLBACK_MAXIMUM = 1_000_000


def application() -> Protect:
    """What `python -m wallet` serves, made of the environment."""
    me = Workload.from_environment()
    people = ServiceClient("people")
    return protect(
        me,
        people=people,
        verifier=published_keys_verifier(people),
        events=SocketEvents(),
        open_ledger=lambda: open_ledger(me),
        rollback_maximum=int(os.environ.get("BANK_ROLLBACK_MAXIMUM") or DEFAULT_ROLLBACK_MAXIMUM),
    )


def protect(
    me: Workload,
    *,
    people: ServiceClient,
    verifier: Verifier,
    events: EventSink,
    open_ledger: Callable[[], Any],
    rollback_maximum: int = DEFAULT_ROLLBACK_MAXIMUM,
    now: Callable[[], float] = time.time,
) -> Protect:
    api = Api(me, people, rollback_maximum=rollback_maximum, now=now)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        ledger: Ledger = await open_ledger()
        api.open(ledger)
        posting = asyncio.create_task(relay(ledger, events, api.wake))
        try:
            yield
        finally:
            posting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await posting
            await ledger.close()

    routes = [
        Route("/wallet", api.show, methods=["GET"]),
        Route("/deposit", api.deposit, methods=["POST"]),
        Route("/transfers", api.transfer, methods=["POST"]),
        Route("/transactions", api.transactions, methods=["GET"]),
        Route("/transactions/{id}/rollback", api.rollback, methods=["POST"]),
    ]
    return Protect(Starlette(routes=routes, lifespan=lifespan), verifier=verifier, metrics=Metrics())


async def open_ledger(me: Workload) -> Ledger:
    """SQLite in the service's own directory, or what `BANK_LEDGER` names: the one setting."""
    where = os.environ.get("BANK_LEDGER", "")
    if where.startswith(("postgresql://", "postgres://")):
        from .ledger_postgres import PostgresLedger

        return await PostgresLedger.open(where)
    if where and not where.startswith("sqlite://"):
        raise Unavailable(
            "ledger_unavailable", "BANK_LEDGER is neither postgresql:// nor sqlite://", "see rempart.toml"
        )
    from .ledger_sqlite import SqliteLedger

    return SqliteLedger(me.data_dir / "ledger.db")
