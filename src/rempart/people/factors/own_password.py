"""Changing one's own password, knowing the old one."""

from __future__ import annotations

from typing import Protocol

from rempart.crypto.passwords import Argon2id
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.event import EventType

from ..hashing_pool import HashingPool
from ..model import Account, Authenticated, Origin
from ..password_rules import PasswordRules
from .credential_changes import CredentialChanges, described
from .model import Change, Changed, Person
from .proving import available


class PasswordCheck(Protocol):
    async def check_password(self, account: Account, password: str, device: str | None, origin: Origin) -> None:
        """Raises Unauthenticated `login_failed`, Throttled, Unavailable."""


class OwnPassword:
    def __init__(
        self,
        logins: PasswordCheck,
        changes: CredentialChanges,
        rules: PasswordRules,
        pool: HashingPool,
        hasher: Argon2id,
        clock: Clock,
    ) -> None:
        self._logins, self._changes, self._rules = logins, changes, rules
        self._pool, self._hasher, self._clock = pool, hasher, clock

    async def change(self, who: Person, old: str, new: str, device: str | None, origin: Origin) -> Changed:
        """Everything that was signed in ends. `device`: the cookie of a known device.

        Raises BadInput `weak_password`, Unauthenticated `login_failed` for the old one and `proof_too_old` when the
        second factor was not proved, Throttled, Conflict `stale_version`, Unavailable.
        """
        credentials, held = await self._changes.read(who.account)
        factors = available(credentials, held)
        if factors and "mfa" not in who.amr:
            raise Unauthenticated(
                "proof_too_old", "this needs a fresh proof of who you are", "sign in again, with your second factor"
            )
        await self._logins.check_password(who.account, old, device, origin)
        if new == old:
            raise BadInput("weak_password", "this password can't be used: it is the old one", "choose another one")
        short = self._rules.check(new, email=who.account.email, name=who.account.name, second_factor=bool(factors))
        encoded = await self._pool.run(lambda: self._hasher.hash(new), known=True)
        after = await self._changes.make(
            who.account,
            Change(password_hash=encoded, short_password=short),
            EventType.PASSWORD_CHANGED,
            "password changed",
            origin,
            before=described(credentials, held),
            actor=who.account.id,
            role=who.account.role,
        )
        amr = tuple(dict.fromkeys(("pwd", *who.amr)))
        return Changed(authenticated=Authenticated(account=after, amr=amr, auth_time=self._clock.now()))
