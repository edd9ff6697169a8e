"""Everything that the people process is made of, and what must be done now and then."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp

from rempart.backends.sql import Database
from rempart.backends.sql_accounts import SqlAccounts
from rempart.backends.sql_families import SqlFamilies
from rempart.kernel.clock import Clock
from rempart.people.access_tokens import AccessTokens
from rempart.people.accounts import Accounts
from rempart.people.collapse import Collapse
from rempart.people.hashing_pool import HashingPool
from rempart.people.login import Logins
from rempart.people.pages.activity import Activity
from rempart.people.ports import OnceStore
from rempart.people.sessions.service import Sessions
from rempart.people.signing_keys import SigningKeys

from .backchannel_http import HttpLogoutSender
from .people_administration import Administration
from .people_authorize import Authorization
from .people_factors import OwnRoom, ProvingRoom
from .people_oauth import OAuth
from .people_sessions import SessionRoom
from .people_state import State

SWEEP_AFTER = 30 * 86400.0  # seconds for which ended sessions stay listed and their networks known


@dataclass(frozen=True)
class People:
    """Everything the process is made of. `maintain` is to be called every few seconds, `close` once at the end."""

    api: ASGIApp
    admin: ASGIApp
    metrics: ASGIApp
    accounts: Accounts
    logins: Logins
    proving: ProvingRoom
    own: OwnRoom
    tokens: AccessTokens
    oauth: OAuth
    authorization: Authorization
    keys: SigningKeys
    refusals: Collapse
    state: State
    database: Database
    store: SqlAccounts
    families: SqlFamilies
    once: OnceStore
    administration: Administration
    activity: Activity
    sender: HttpLogoutSender
    sessions: Sessions
    session_room: SessionRoom
    pool: HashingPool
    clock: Clock

    async def maintain(self) -> None:
        await self.keys.maintain()
        await self.accounts.publish()
        await self.session_room.end_superseded()
        await self.activity.flush()

    async def tell_logouts(self) -> None:
        await self.authorization.back_channel.deliver()

    async def sweep(self) -> None:
        """Forget what ended long ago; to be called now and then."""
        now = self.clock.now()
        await self.families.sweep(now - SWEEP_AFTER)
        await self.once.sweep(now)
        await self.proving.store.forget_erased()
        await self.administration.sweep()
        await self.activity.store.sweep(now - SWEEP_AFTER)
        await self.authorization.back_channel.sweep()
        await self.sessions.sweep()
        await self.session_room.forget_ended()

    async def close(self) -> None:
        try:
            await self.administration.close()
            await self.own.notices.close()
            await self.sender.close()
            await self.refusals.flush()
            await self.activity.flush()
        finally:
            self.pool.close()
            await self.state.close()
