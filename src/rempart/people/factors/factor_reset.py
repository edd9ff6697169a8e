"""The one way back for who lost their last factor: all factors go, and the person sets up new ones.

An administrator asks for it, by a link to the person's mail address (`administration/links.py`) or at once; nobody
does it for themselves. What the account has is recorded before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

from rempart.kernel.event import EventType

from ..model import Account, Origin
from .credential_changes import CredentialChanges, described
from .model import REMOVE_ALL


@dataclass(frozen=True)
class FactorReset:
    changes: CredentialChanges

    async def reset(self, account: Account, origin: Origin, *, actor: str | None, role: str | None = None) -> Account:
        """The account after it; everything that was signed in has ended. `actor`: the account id of who does it.

        Where the role or a short password demands a factor, the next sign-in asks to set one up.
        Raises NotFound, Conflict `stale_version`, Unavailable.
        """
        credentials, held = await self.changes.read(account)
        return await self.changes.make(
            account,
            REMOVE_ALL,
            EventType.FACTOR_CHANGED,
            "all factors removed",
            origin,
            before=described(credentials, held),
            actor=actor,
            role=role,
        )
