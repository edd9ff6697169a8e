"""Where the tests of the bank's ledger keep it, and the orders they give."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from rempart.kernel.errors import RempartError
from wallet.ledger import SOURCE, Kind, Ledger, Order, order
from wallet.ledger_postgres import PostgresLedger
from wallet.ledger_sqlite import SqliteLedger

T = TypeVar("T")
NOW = 1_800_000_000.0
BANK = Path(__file__).parents[1] / "examples" / "bank"


class Place:
    """Where a ledger is kept; it can be opened again, and tampered with."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> Ledger:
        return await open_url(self.url)

    def tamper(self, *statements: str) -> None:
        if self.url.startswith("host="):
            with psycopg.connect(self.url, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement.encode())
        else:
            file = sqlite3.connect(self.url, isolation_level=None)
            try:
                for statement in statements:
                    file.execute(statement)
            finally:
                file.close()


async def open_url(url: str) -> Ledger:
    return await PostgresLedger.open(url) if url.startswith("host=") else SqliteLedger(Path(url))


def new_place(request: pytest.FixtureRequest, kind: str, directory: Path) -> Place:
    if kind == "sqlite":
        return Place(str(directory / f"{uuid.uuid4().hex}.db"))
    conninfo = request.getfixturevalue("server")
    schema = f"s{uuid.uuid4().hex}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return Place(f"{conninfo} options='-c search_path={schema}'")


def on(place: Place, play: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    """Open the ledger, play, examine it, close it."""

    async def run() -> T:
        ledger = await place.open()
        try:
            result = await play(ledger)
            soundness = await ledger.examine()
            assert not soundness.problems
            assert soundness.total == 0
            return result
        finally:
            await ledger.close()

    return asyncio.run(run())


def deposit(to: str, amount: int, key: str = "", **more: Any) -> Order:
    return order(
        kind=Kind.DEPOSIT, source=SOURCE, destination=to, amount=amount, at=NOW, scope="agent", key=key, **more
    )


def pay(source: str, to: str, amount: int, key: str = "", scope: str = "") -> Order:
    return order(
        kind=Kind.PAYMENT, source=source, destination=to, amount=amount, at=NOW, scope=scope or source, key=key
    )


async def outcomes(*asked: Awaitable[Any]) -> tuple[list[Any], list[RempartError]]:
    """What succeeded, and what was refused."""
    done = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in done if isinstance(answer, RempartError)]
    failed = [answer for answer in done if isinstance(answer, BaseException) and not isinstance(answer, RempartError)]
    assert not failed
    return [answer for answer in done if not isinstance(answer, BaseException)], refused
