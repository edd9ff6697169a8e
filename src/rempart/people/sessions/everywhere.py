"""Everything that a person is signed in with: sessions and families of refresh tokens, in one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rempart.people.accounts import Accounts, Actor

from .service import Sessions


@dataclass(frozen=True)
class Everywhere:
    accounts: Accounts
    sessions: Sessions

    async def list(self, account_id: str) -> Sequence[dict[str, Any]]:
        """Last used first; `kind` is `web`, `api`, `cli`, or `tokens` for a family."""
        found = [
            {
                **session.public(),
                "scope": "session",
                "last_used_at": session.seen_at,
                "expires_at": session.ends_at,
                "revoked_at": None,
                "revoked_for": "",
            }
            for session in await self.sessions.list(account_id)
        ]
        found += [{"kind": "tokens", **family.public()} for family in await self.accounts.sessions(account_id)]
        return sorted(found, key=lambda entry: -entry["last_used_at"])

    async def end(self, account_id: str, one: str | None, actor: Actor) -> int:
        """End `one` by its id, or all; how many ended. Raises NotFound `no_such_session` and as `Accounts.revoke`."""
        why = "ended by its owner" if actor.person == account_id else "administrator"
        if one is None:
            ended = await self.accounts.revoke(account_id, None, actor)
            return ended + await self.sessions.end_all(account_id, why, actor.origin)
        if one not in {session.id for session in await self.sessions.list(account_id)}:
            return await self.accounts.revoke(account_id, one, actor)
        await self.accounts.may_change(await self.accounts.get(account_id), actor)
        return int(await self.sessions.end(one, why, actor.origin))
