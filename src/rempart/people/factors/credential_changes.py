"""One way to change an account's credentials: with its event in one transaction, and then everything ends that was
signed in before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rempart.kernel.clock import Clock
from rempart.kernel.errors import NotFound, Unauthenticated
from rempart.kernel.event import Event, EventType, Severity

from ..model import Account, Credentials, Origin
from ..ports import AccountStore
from .model import Change, Factor, Held, Person
from .notices import Notices
from .ports import FactorStore
from .proving import available

RECENT = 600.0  # seconds


class Endings(Protocol):
    async def end_all(self, account_id: str, why: str, origin: Origin) -> None:
        """End every session and revoke every refresh token of this account. The grown epoch has ended them already:
        this tells those who wait to hear of it. Raises Unavailable."""


@dataclass(frozen=True)
class CredentialChanges:
    """`publish` hands committed events to the journal; a change is answered once its event is there."""

    accounts: AccountStore
    store: FactorStore
    publish: Callable[[], Awaitable[None]]
    endings: Endings
    notices: Notices
    clock: Clock

    async def read(self, account: Account) -> tuple[Credentials, Held]:
        """Raises NotFound `no_such_account` also when the account was changed since it was read."""
        found = await self.accounts.by_email(account.email)
        if found is None or found[0].version != account.version or found[0].id != account.id:
            raise NotFound("no_such_account", "the account was changed meanwhile", "try again")
        return found[1], await self.store.held(account.id)

    async def make(
        self,
        account: Account,
        change: Change,
        kind: EventType,
        what: str,
        origin: Origin,
        *,
        before: Mapping[str, Any],
        actor: str | None,
        operator: str | None = None,
        role: str | None = None,
    ) -> Account:
        """The account after it. Raises Conflict `stale_version`, `passkey_known`, NotFound `no_such_passkey`."""
        now = self.clock.now()
        after = replace(account, version=account.version + 1, epoch=account.epoch + 1, updated_at=now)
        event = origin.stamp(
            Event(
                type=kind,
                at=now,
                success=True,
                severity=Severity.MEDIUM if actor != account.id else Severity.INFO,
                reason=what,
                person=actor,
                role=role,
                operator=operator or origin.operator,
                before=before,
                after=_after(before, change),
                details={"account": account.id, "change": what},
            )
        )
        await self.store.change(after, change, event)
        await self.publish()
        await self.endings.end_all(account.id, what, origin)
        self.notices.tell(after, what, origin)
        return after


def described(credentials: Credentials, held: Held) -> dict[str, Any]:
    """What an account has, as `before` and `after` of an event say it: nothing that proves anything."""
    return {
        str(Factor.TOTP): credentials.totp is not None,
        str(Factor.PASSKEY): {passkey.id: passkey.name for passkey in held.passkeys},
        str(Factor.BACKUP_CODE): held.backup_codes,
    }


def _after(before: Mapping[str, Any], change: Change) -> dict[str, Any]:
    passkeys = {} if change.remove_all_passkeys else dict(before[str(Factor.PASSKEY)])
    passkeys.pop(change.remove_passkey or "", None)
    if change.add_passkey is not None:
        passkeys[change.add_passkey.id] = change.add_passkey.name
    codes = before[str(Factor.BACKUP_CODE)] if change.backup_codes is None else len(change.backup_codes)
    return {
        str(Factor.TOTP): change.totp is not None or (before[str(Factor.TOTP)] and not change.remove_totp),
        str(Factor.PASSKEY): passkeys,
        str(Factor.BACKUP_CODE): codes,
    }


def require_fresh(who: Person, credentials: Credentials, held: Held, now: float) -> None:
    """Raises Unauthenticated `proof_too_old`: the proof is older than `RECENT`, or lacks the factor that they have."""
    if now - who.auth_time > RECENT or (available(credentials, held) and "mfa" not in who.amr):
        raise Unauthenticated(
            "proof_too_old", "this needs a fresh proof of who you are", "sign in again, with your second factor"
        )
