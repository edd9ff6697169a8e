"""However opening, using, raising, ending, waiting and changes of accounts are mixed, a dead token stays dead."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.people_sessions import HOME, Room, compose
from tests.people_stores import fresh_sqlite
from tests.redis_server import fresh_redis, private_redis

from rempart.backends.redis_sessions import RedisSessions
from rempart.backends.sql_sessions import SCHEMA
from rempart.people.sessions.model import LIMITS, Kind, Opened, Session
from rempart.people.sessions.ports import SessionStore

T = TypeVar("T")
NAMES = st.sampled_from(["ann", "bob"])
PICK = st.integers(0, 10**6)


@dataclass
class Known:
    """What the model knows of a living session."""

    session: Session
    key: str | None
    ends_at: float


class Sessions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.held = contextlib.AsyncExitStack()
        directory = self.held.enter_context(tempfile.TemporaryDirectory())
        database = self.do(self.held.enter_async_context(fresh_sqlite(Path(directory), SCHEMA)))
        self.room: Room = compose(database, self.store())
        self.alive: dict[str, Known] = {}
        self.dead: list[str] = []

    def store(self) -> SessionStore | None:
        return None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.do(self.held.aclose())
        self.loop.close()

    def _learn(self, opened: Opened) -> None:
        self.alive[opened.token] = Known(opened.session, opened.session.key, opened.session.ends_at)

    def _kill(self, *tokens: str) -> None:
        for token in tokens:
            del self.alive[token]
            self.dead.append(token)

    def _any(self, number: int) -> str:
        """ "" where none is. (No preconditions: how a race ends must not change what Hypothesis draws next.)"""
        return list(self.alive)[number % len(self.alive)] if self.alive else ""

    @rule(name=NAMES, kind=st.sampled_from(list(Kind)), bound=st.booleans())
    def open(self, name: str, kind: Kind, bound: bool) -> None:
        proved = self.do(self.room.proved(name))
        key = "thumbprint" if bound else None
        if not proved.account.disabled:
            self._learn(self.do(self.room.sessions.open(proved, kind, HOME, key=key)))

    @rule(number=PICK)
    def use(self, number: int) -> None:
        token = self._any(number)
        if not token:
            return
        known = self.alive[token]
        found = self.do(self.room.sessions.find(token, HOME, proof=known.key))
        assert isinstance(found, Session)
        assert found.id == known.session.id
        known.ends_at = found.ends_at
        limits = LIMITS[found.kind]
        assert found.ends_at <= found.auth_time + limits.absolute
        assert found.ends_at <= self.room.clock.now() + limits.idle

    @rule(number=PICK)
    def steal(self, number: int) -> None:
        bound = [token for token, known in self.alive.items() if known.key]
        if not bound:
            return
        token = bound[number % len(bound)]
        assert self.do(self.room.sessions.find(token, HOME)) is None
        self._kill(token)

    @rule(number=PICK, at_once=st.integers(1, 4), ending=st.booleans())
    def raise_privilege(self, number: int, at_once: int, ending: bool) -> None:
        token = self._any(number)
        if not token:
            return
        session = self.alive[token].session
        name = session.account_id.removeprefix("usr_")

        async def race() -> list[Opened]:
            proved = await self.room.proved(name, "otp")
            raising = [self.room.sessions.raise_privilege(session, proved, HOME) for _ in range(at_once)]
            if not ending:
                return list(await asyncio.gather(*raising))
            *raised, _ = await asyncio.gather(*raising, self.room.sessions.end(session.id, "sign-out", HOME))
            return raised

        raised = self.do(race())
        self._kill(token)
        for opened in raised:
            found = self.do(self.room.sessions.find(opened.token, HOME, proof=opened.session.key))
            if found is None:  # its session was ended or raised again after it
                assert opened.session.id == session.id
                self.dead.append(opened.token)
            else:
                self._learn(opened)

    @rule(number=PICK, at_once=st.integers(1, 3))
    def end(self, number: int, at_once: int) -> None:
        token = self._any(number)
        if not token:
            return
        session = self.alive[token].session

        async def race() -> list[bool]:
            ends = (self.room.sessions.end(session.id, "sign-out", HOME) for _ in range(at_once))
            return list(await asyncio.gather(*ends))

        assert sum(self.do(race())) == 1
        self._kill(token)

    @rule(name=NAMES)
    def end_all(self, name: str) -> None:
        mine = [token for token, known in self.alive.items() if known.session.account_id == f"usr_{name}"]
        self.do(self.room.account(name))
        assert self.do(self.room.sessions.end_all(f"usr_{name}", "password", HOME)) >= len(mine)
        self._kill(*mine)

    @rule(seconds=st.sampled_from([1.0, 59.0, 61.0, 1800.0, 3600.0, 40_000.0]))
    def wait(self, seconds: float) -> None:
        self.room.clock.advance(seconds)
        now = self.room.clock.now()
        self._kill(*[token for token, known in self.alive.items() if known.ends_at <= now])

    @rule(name=NAMES)
    def supersede(self, name: str) -> None:
        account = self.do(self.room.account(name))
        self.do(self.room.change(name, epoch=account.epoch + 1))
        self._kill(*[token for token, known in self.alive.items() if known.session.account_id == account.id])

    @rule()
    def sweep(self) -> None:
        self.do(self.room.sessions.sweep())

    @invariant()
    def dead_tokens_stay_dead(self) -> None:
        for token in self.dead[-20:]:
            assert self.do(self.room.sessions.find(token, HOME, proof="thumbprint")) is None

    @invariant()
    def what_lives_is_listed(self) -> None:
        listed = {one.id for name in ("ann", "bob") for one in self.do(self.room.sessions.list(f"usr_{name}"))}
        assert listed == {known.session.id for known in self.alive.values()}


class SessionsInRedis(Sessions):
    address = ""

    def store(self) -> SessionStore:
        return RedisSessions(self.do(self.held.enter_async_context(fresh_redis(self.address))))


LIMITS_OF_SEARCH = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_in_a_database() -> None:
    run_state_machine_as_test(Sessions, settings=LIMITS_OF_SEARCH)


def test_in_redis() -> None:
    with private_redis() as server:
        SessionsInRedis.address = server.address
        run_state_machine_as_test(SessionsInRedis, settings=LIMITS_OF_SEARCH)
