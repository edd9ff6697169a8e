"""How sessions are put together: their face, their store's upkeep, and what must hear of their end."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute

from rempart.backends.sql import Database
from rempart.backends.sql_epochs import SqlEpochs
from rempart.kernel.clock import Clock
from rempart.kernel.event import Recorder
from rempart.people.access_tokens import AccessTokens
from rempart.people.accounts import Accounts
from rempart.people.administration.epoch_feed import HORIZON
from rempart.people.login import Logins
from rempart.people.requests import Origins
from rempart.people.sessions.api import SessionsFace
from rempart.people.sessions.everywhere import Everywhere
from rempart.people.sessions.service import Sessions

from .people_oauth import OAuth

_LOOKED_BACK = 60.0  # seconds: longer than a process takes to come back


@dataclass(frozen=True)
class EndedSessions:
    """A `SessionEnding`: the enforcement points are told by the feed of epochs."""

    epochs: SqlEpochs
    clock: Clock

    async def session_ends(self, session_id: str, account_id: str) -> None:
        await self.epochs.end(session_id, account_id, self.clock.now())


@dataclass(frozen=True)
class SessionRoom:
    routes: list[BaseRoute]
    everywhere: Everywhere
    _sessions: Sessions
    _epochs: SqlEpochs
    _clock: Clock

    async def end_superseded(self) -> None:
        """Sessions of accounts that changed a moment ago; to be called every few seconds."""
        for account_id, _, _ in await self._epochs.changed_since(self._clock.now() - _LOOKED_BACK):
            await self._sessions.end_superseded(account_id)

    async def forget_ended(self) -> None:
        """What no token can belong to any more; to be called now and then."""
        await self._epochs.sweep(self._clock.now() - HORIZON)


def compose_sessions(
    sessions: Sessions,
    database: Database,
    accounts: Accounts,
    logins: Logins,
    access: AccessTokens,
    oauth: OAuth,
    origins: Origins,
    recorder: Recorder,
    clock: Clock,
) -> SessionRoom:
    everywhere = Everywhere(accounts, sessions)
    face = SessionsFace(
        sessions,
        everywhere,
        accounts,
        logins,
        access,
        oauth.dpop,
        oauth.bearers,
        origins,
        recorder,
        clock,
        bound_only=oauth.profile.bound_only,
    )
    return SessionRoom(face.routes(), everywhere, sessions, SqlEpochs(database), clock)
