"""Sessions composed for tests: real store (SQLite), accounts in memory, a clock to move by hand."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.people_fakes import MemoryAccounts, MemoryRecorder
from tests.people_stores import fresh_sqlite

from rempart.backends.sql_sessions import SCHEMA, SqlSessions
from rempart.backends.sqlite_sql import SqliteDatabase
from rempart.kernel.clock import ManualClock
from rempart.kernel.event import Event, EventType
from rempart.people.collapse import Collapse
from rempart.people.model import Account, Authenticated, Credentials, Origin
from rempart.people.sessions.ports import SessionStore
from rempart.people.sessions.service import Sessions

HOME = Origin(ip="203.0.113.7", user_agent="Mozilla/5.0 Firefox/140.0", locale="fr")


class Listener:
    """Hears which sessions end; `failing` is raised instead."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.failing: Exception | None = None

    async def session_ends(self, session_id: str, account_id: str) -> None:
        if self.failing is not None:
            raise self.failing
        self.heard.append(session_id)


@dataclass
class Room:
    sessions: Sessions
    database: SqliteDatabase
    accounts: MemoryAccounts
    recorder: MemoryRecorder
    clock: ManualClock
    listener: Listener

    async def account(self, name: str = "ann") -> Account:
        found = await self.accounts.get(f"usr_{name}")
        if found is None:
            found = Account(id=f"usr_{name}", email=f"{name}@bank.example", name=name, role="user",
                            payment_limit=None, disabled=False, second_factor=False, version=1, epoch=1,
                            created_at=1.0, updated_at=1.0)  # fmt: skip
            await self.accounts.add(found, Credentials("h"), _event())
        return found

    async def change(self, name: str = "ann", **fields: Any) -> None:
        before = await self.account(name)
        await self.accounts.replace(replace(before, version=before.version + 1, **fields), _event())

    async def proved(self, name: str = "ann", *amr: str) -> Authenticated:
        return Authenticated(account=await self.account(name), amr=amr or ("pwd",), auth_time=self.clock.now())


def _event() -> Event:
    return Event(type=EventType.ACCOUNT_CHANGED, at=2.0, success=True)


def compose(database: SqliteDatabase, store: SessionStore | None = None, **more: Any) -> Room:
    """`store` instead of the one in the database; `more` goes to `Sessions`."""
    accounts, recorder, clock, listener = MemoryAccounts(), MemoryRecorder(), ManualClock(), Listener()
    store = store or SqlSessions(database)
    sessions = Sessions(store, accounts, recorder, Collapse(recorder), clock, key=b"s" * 32, ending=[listener], **more)
    return Room(sessions, database, accounts, recorder, clock, listener)


def in_room(scenario: Callable[[Room], Coroutine[Any, Any, None]], **more: Any) -> None:
    async def body() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with fresh_sqlite(Path(directory), SCHEMA) as database:
                await scenario(compose(database, **more))

    asyncio.run(body())
