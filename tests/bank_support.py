"""The bank's services in one process: real handlers and ledger, people played by a dictionary, the mesh by headers."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.sdk_support import DOMAIN, AsgiTransport, Events, client, headers, verifier

import payment.app
import users.app
import wallet.app
from rempart.kernel.errors import NotFound
from rempart.sdk import Protect, ServiceClient, Workload, caller, read_json
from wallet.ledger import Ledger
from wallet.ledger_sqlite import SqliteLedger

T = TypeVar("T")
AGENT = f"spiffe://{DOMAIN}/deposit-agent"
PAYMENT = f"spiffe://{DOMAIN}/payment"


@dataclass
class People:
    """Accounts by id: `{"payment_limit", "disabled"}`. Keeps the changes it is asked for."""

    accounts: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "ann": {"payment_limit": 5000, "disabled": False},
            "bob": {"payment_limit": None, "disabled": False},
            "eve": {"payment_limit": None, "disabled": True},
        }
    )
    changes: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    down: bool = False

    def app(self) -> Any:
        routes = [
            Route("/accounts", self._every),
            Route("/accounts/{id}", self._one, methods=["GET", "PATCH"]),
            Route("/accounts/{id}/payment", self._payment),
        ]
        return Protect(Starlette(routes=routes), verifier=verifier())

    async def _payment(self, request: Request) -> JSONResponse:
        if self.down:
            return JSONResponse({}, 502)
        account = self.accounts.get(request.path_params["id"])
        found = account or {"payment_limit": None, "disabled": False}
        return JSONResponse({"id": request.path_params["id"], "exists": account is not None, **found})

    async def _every(self, request: Request) -> JSONResponse:
        listed = [{"id": name, **account} for name, account in self.accounts.items()]
        return JSONResponse({"accounts": listed, "next": "cursor", "query": str(request.query_params)})

    async def _one(self, request: Request) -> JSONResponse:
        name = request.path_params["id"]
        if name not in self.accounts:
            raise NotFound("no_such_account", "there is no such account")
        if request.method == "PATCH":
            change = await read_json(request, dict[str, Any])
            self.changes.append((name, change, caller().the_person().subject))
            self.accounts[name].update(change)
        return JSONResponse({"id": name, **self.accounts[name]})


@dataclass
class Bank:
    people: People
    events: Events
    ledger: Ledger
    wallet: httpx.AsyncClient
    payment: httpx.AsyncClient
    users: httpx.AsyncClient
    clock: list[float]

    async def deposit(self, to: str, amount: Any, *, key: str = "", workload: str = AGENT) -> httpx.Response:
        given = [*headers(workload=workload), ("idempotency-key", key or uuid.uuid4().hex)]
        return await self.wallet.post("/deposit", headers=given, json={"receiver_id": to, "amount": amount})

    async def pay(self, who: str, to: Any, amount: Any, *, key: str = "", role: str = "user") -> httpx.Response:
        given = [*headers(who, role), ("idempotency-key", key or uuid.uuid4().hex)]
        return await self.payment.post("/payments", headers=given, json={"receiver_id": to, "amount": amount})

    async def show(self, who: str) -> dict[str, Any]:
        answer = await self.wallet.get("/wallet", params={"user_id": who}, headers=headers(who))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def roll_back(self, transaction: str, *, who: str = "fin", reason: Any = "mistake") -> httpx.Response:
        path = f"/transactions/{transaction}/rollback"
        return await self.wallet.post(path, headers=headers(who, "finance"), json={"reason": reason})


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Bank]:
    people, events, clock = People(), Events(), [1_800_000_000.0]
    ledger = SqliteLedger(directory / f"{uuid.uuid4().hex}.db")

    async def open_ledger() -> Ledger:
        return ledger

    me = Workload.from_environment({"REMPART_SERVICE": "wallet", "REMPART_TRUST_DOMAIN": DOMAIN})
    people_app = people.app()

    def ask_people(workload: str) -> ServiceClient:
        return ServiceClient("people", AsgiTransport(people_app, f"spiffe://{DOMAIN}/{workload}"))

    wallet_app = wallet.app.protect(
        me,
        people=ask_people("wallet"),
        verifier=verifier(),
        events=events,
        open_ledger=open_ledger,
        rollback_maximum=10_000,
        now=lambda: clock[0],
    )
    payment_app = payment.app.protect(
        people=ask_people("payment"),
        wallet=ServiceClient("wallet", AsgiTransport(wallet_app, PAYMENT)),
        verifier=verifier(),
        events=events,
    )
    users_app = users.app.protect(people=ask_people("users"), verifier=verifier())
    async with lifespan(wallet_app), client(wallet_app) as w, client(payment_app) as p, client(users_app) as u:
        yield Bank(people, events, ledger, w, p, u, clock)


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """What a server does around an ASGI application (ASGI specification, "Lifespan")."""
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, incoming.get, outgoing.put))
    await incoming.put({"type": "lifespan.startup"})
    assert (await outgoing.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await incoming.put({"type": "lifespan.shutdown"})
        assert (await outgoing.get())["type"] == "lifespan.shutdown.complete"
        await task


def play(directory: Path, body: Callable[[Bank], Coroutine[Any, Any, T]]) -> T:
    """Play with a fresh bank; its ledger must be sound afterwards."""

    async def run() -> T:
        async with opened(directory) as bank:
            result = await body(bank)
            soundness = await bank.ledger.examine()
            assert not soundness.problems
            return result

    return asyncio.run(run())


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which must be a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]
