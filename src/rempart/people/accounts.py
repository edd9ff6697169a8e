"""Administering accounts: every change has an actor, is recorded with before and after, and takes effect at once.

Whichever door a change comes by (operator, HTTP, SCIM, import), the same rules hold: a person changes those whom their
role manages, gives no role that it doesn't manage, and never changes their own role or limit; the last enabled
administrator stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rempart.crypto.passwords import Argon2id, check_encoded
from rempart.crypto.totp import parse_secret
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, Denied, NotFound
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id
from rempart.kernel.principal import Role

from .administration.roles import Roles
from .factors.codes import seal_totp
from .hashing_pool import HashingPool
from .model import GONE, Account, Credentials, Origin, RefreshFamily, check_limit, clean_name, normalise_email
from .password_rules import PasswordRules
from .ports import AccountStore, Outbox, RefreshStore

_INVITED = "link: invite"  # as `administration.links` says it
_ATTEMPTS = 5  # at a change that others interfere with


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: a person (with the workload that passed the request on), an OAuth client that provisions
    accounts, or an operator of the host.
    """

    origin: Origin
    person: str | None = None
    role: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """`password` only when it was generated: shown once, stored nowhere."""

    account: Account
    password: str | None = field(repr=False)


class Tell(Protocol):
    """Lets a person hear, at the address of the account given, that somebody changed what proves them."""

    def __call__(self, account: Account, change: str, origin: Origin) -> None:
        """Returns at once, whatever becomes of it."""


def _nobody(account: Account, change: str, origin: Origin) -> None:
    """Where nobody is told."""


class Accounts:
    """`tell` is asked for changes that others than the person may make: password and address."""

    def __init__(
        self,
        store: AccountStore,
        outbox: Outbox,
        families: RefreshStore,
        pool: HashingPool,
        hasher: Argon2id,
        recorder: Recorder,
        clock: Clock,
        roles: Roles,
        *,
        totp_key: bytes,
        rules: PasswordRules,
        tell: Tell | None = None,
    ) -> None:
        self._store, self._outbox, self._families = store, outbox, families
        self._pool, self._hasher, self._recorder, self._clock = pool, hasher, recorder, clock
        self.roles = roles
        self._totp_key, self._rules = totp_key, rules
        self._tell: Tell = tell or _nobody
        self._publishing = asyncio.Lock()

    async def get(self, account_id: str) -> Account:
        """Raises NotFound `no_such_account`."""
        account = await self._store.get(account_id)
        if account is None:
            raise NotFound("no_such_account", "there is no such account", "see `rempart user list`")
        return account

    async def find(self, reference: str) -> Account:
        """By id or by e-mail address; raises NotFound `no_such_account`."""
        if "@" in reference:
            found = await self._store.by_email(normalise_email(reference))
            if found:
                return found[0]
        return await self.get(reference)

    async def by_email(self, address: str) -> Account | None:
        """`address` is normalised."""
        found = await self._store.by_email(address)
        return found[0] if found else None

    async def peek(self, account_id: str) -> Account | None:
        return await self._store.get(account_id)

    async def page(self, after: str, limit: int) -> Sequence[Account]:
        return await self._store.page(after, limit)

    async def add(
        self,
        *,
        email: str,
        role: str,
        name: str | None,
        payment_limit: int | None,
        password: str | None,
        password_hash: str | None = None,
        totp: str | None = None,
        invited: bool = False,
        disabled: bool = False,
        account_id: str | None = None,
        actor: Actor,
    ) -> Added:
        """Raises BadInput for each field, Conflict `email_taken`, Denied as `Roles.require`.

        No password and no hash: one is generated, and told unless the person is `invited` to choose one.
        """
        address = normalise_email(email)
        now = self._clock.now()
        account = Account(
            id=account_id or new_id("usr"),
            email=address,
            name=clean_name(name if name is not None else address.partition("@")[0]),
            role=self.roles.check(role),
            payment_limit=check_limit(payment_limit),
            disabled=disabled,
            second_factor=totp is not None,
            version=1,
            epoch=1,
            created_at=now,
            updated_at=now,
        )
        await self._allow(EventType.ACCOUNT_CREATED, actor, None, account)
        generated = self._rules.generate() if password is None and password_hash is None else None
        sealed = self._seal(account, totp)
        if password_hash is not None:
            encoded = check_encoded(password_hash)
        else:
            encoded = await self._hash(generated or password or "", account)
        event = self._event(EventType.ACCOUNT_CREATED, actor, None, account)
        await self._store.add(account, Credentials(encoded, sealed), event)
        await self.publish()
        return Added(account, None if invited else generated)

    async def change(self, account_id: str, changes: Mapping[str, Any], actor: Actor) -> Account:
        """`changes`: any of email, name, role, disabled, payment_limit, already of the right types.

        Raises BadInput for a value, NotFound, Denied `own_role`, `own_limit` or as `Roles.require`, Conflict
        `last_admin`, `email_taken`, `account_erased`, `stale_version`.
        """
        for attempt in range(_ATTEMPTS):
            before = await self.get(account_id)
            after = self._changed(before, changes)
            if after == before:
                return before
            kind = EventType.ROLE_CHANGED if after.role != before.role else EventType.ACCOUNT_CHANGED
            await self._allow(kind, actor, before, after)
            try:
                event = self._event(kind, actor, before, after)
                await self._store.replace(after, event)
            except Conflict as error:
                if error.code == "stale_version" and attempt + 1 < _ATTEMPTS:
                    continue
                await self._recorder.record(self._event(kind, actor, before, before, error.reason))
                raise
            await self.publish()
            if after.email != before.email:
                self._tell(before, "e-mail address changed", actor.origin)  # where they read it until now
            return after
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    async def reset_password(
        self, account_id: str, password: str | None, totp: str | None, actor: Actor, *, why: str = ""
    ) -> Added:
        """A given or a generated password; every session of the account ends. `why` goes into the record."""
        before = await self.get(account_id)
        await self._allow(EventType.PASSWORD_RESET, actor, before, before)
        generated = self._rules.generate() if password is None else None
        encoded = await self._hash(generated or password or "", before)
        sealed = self._seal(before, totp)
        after = replace(
            before,
            version=before.version + 1,
            epoch=before.epoch + 1,
            second_factor=before.second_factor or sealed is not None,
            updated_at=self._clock.now(),
        )
        event = replace(self._event(EventType.PASSWORD_RESET, actor, before, after), reason=why)
        await self._store.set_credentials(after, encoded, sealed, event)
        await self.publish()
        if why != _INVITED:  # they know: they were invited just now
            self._tell(after, "password changed" if actor.person == account_id else "password reset", actor.origin)
        return Added(after, generated)

    async def erase(self, account_id: str, actor: Actor) -> Account:
        """Disable for good and forget who it was: the id stays, so that nobody else ever gets it.

        Raises NotFound, Denied, Conflict as `change`.
        """
        before = await self.get(account_id)
        unusable = await self._hash(self._rules.generate(), before)
        after = replace(
            before,
            email=f"{before.id.lower()}@{GONE}",
            name="erased",
            payment_limit=None,
            disabled=True,
            version=before.version + 1,
            epoch=before.epoch + 1,
            updated_at=self._clock.now(),
        )
        await self._allow(EventType.ACCOUNT_CHANGED, actor, before, after)
        event = replace(self._event(EventType.PERSON_ERASED, actor, None, after), reason="erased")
        try:
            await self._store.set_credentials(after, unusable, None, event)
        except Conflict as error:
            await self._recorder.record(self._event(EventType.ACCOUNT_CHANGED, actor, before, before, error.reason))
            raise
        await self.publish()
        return after

    async def sessions(self, account_id: str) -> Sequence[RefreshFamily]:
        """Those that are alive, newest first."""
        account, now = await self.get(account_id), self._clock.now()
        families = await self._families.of_account(account_id)
        return [f for f in families if f.revoked_at is None and f.expires_at > now and f.epoch == account.epoch]

    async def revoke(self, account_id: str, session: str | None, actor: Actor) -> int:
        """End one session, or all and every access token with them (the epoch grows); how many were ended."""
        account = await self.get(account_id)
        await self._allow(EventType.TOKEN_REVOKED, actor, account, account)
        now = self._clock.now()
        if session is None:
            after = replace(account, version=account.version + 1, epoch=account.epoch + 1, updated_at=now)
            await self._store.replace(after, self._event(EventType.ACCOUNT_CHANGED, actor, account, after))
            await self.publish()
            ended = await self._families.revoke_all(account_id, "administrator", now)
        else:
            if session not in {family.id for family in await self._families.of_account(account_id)}:
                raise NotFound("no_such_session", "this account has no such session", "see `rempart user sessions`")
            ended = int(await self._families.revoke(session, "administrator", now) is not None)
        event = self._event(EventType.TOKEN_REVOKED, actor, None, None)
        await self._recorder.record(
            replace(event, person=account_id, details={**event.details, "session": session, "ended": ended})
        )
        return ended

    async def publish(self) -> None:
        """Hand committed events to the journal; called after every change, and at start for what a crash left."""
        async with self._publishing:
            for event in await self._outbox.pending():
                await self._recorder.record(event)
                await self._outbox.settle(event.id)

    def _changed(self, before: Account, changes: Mapping[str, Any]) -> Account:
        fields: dict[str, Any] = {}
        if "email" in changes:
            fields["email"] = normalise_email(changes["email"])
        if "name" in changes:
            fields["name"] = clean_name(changes["name"])
        if "role" in changes:
            fields["role"] = self.roles.check(changes["role"])
        if "disabled" in changes:
            fields["disabled"] = changes["disabled"]
        if "payment_limit" in changes:
            fields["payment_limit"] = check_limit(changes["payment_limit"])
        after = replace(before, **fields)
        if after == before:
            return before
        ends = after.role != before.role or (after.disabled and not before.disabled)
        return replace(after, version=before.version + 1, epoch=before.epoch + int(ends), updated_at=self._clock.now())

    async def _allow(self, kind: EventType, actor: Actor, before: Account | None, after: Account) -> None:
        """What a person may do to whom; operators and clients are trusted as they are. A refusal is recorded."""
        try:
            if before is not None and before.erased and kind is not EventType.TOKEN_REVOKED:
                raise Conflict("account_erased", "this account was erased", "make another one")
            if actor.person is None:
                return
            if before is not None and actor.person == before.id:
                if after.role != before.role:
                    raise Denied("own_role", "nobody may change their own role", "ask another administrator")
                if after.payment_limit != before.payment_limit:
                    raise Denied("own_limit", "nobody may change their own limit", "ask another administrator")
                return
            self.roles.require(actor.role or "", *({before.role, after.role} if before else {after.role}))
        except (Conflict, Denied) as error:
            await self._recorder.record(self._event(kind, actor, before, before or after, error.reason))
            raise

    async def may_change(self, account: Account, actor: Actor) -> None:
        """For acts beside `change`. Raises Denied and Conflict as it does; a refusal is recorded."""
        await self._allow(EventType.ACCOUNT_CHANGED, actor, account, account)

    def vet_password(self, password: str, account: Account) -> None:
        """Raises BadInput `weak_password`."""
        self.vet_new_password(password, account.email, account.name)

    def vet_new_password(self, password: str, email: str, name: str) -> None:
        """As `vet_password`, before there is an account."""
        self._rules.check(password, email=email, name=name)

    async def _hash(self, password: str, account: Account) -> str:
        self.vet_password(password, account)
        return await self._pool.run(lambda: self._hasher.hash(password), known=True)

    def _seal(self, account: Account, totp: str | None) -> bytes | None:
        if totp is None:
            return None
        return seal_totp(self._totp_key, account.id, parse_secret(totp))

    def _event(
        self, kind: EventType, actor: Actor, before: Account | None, after: Account | None, refused: str = ""
    ) -> Event:
        about = after or before
        severe = kind is EventType.ROLE_CHANGED and about is not None and about.role == Role.ADMIN
        return actor.origin.stamp(
            Event(
                type=kind,
                at=self._clock.now(),
                success=not refused,
                severity=Severity.MEDIUM if severe or refused else Severity.INFO,
                reason=refused,
                person=actor.person,
                role=actor.role,
                before=before.public() if before else None,
                after=after.public() if after and not refused else None,
                details={
                    "account": about.id if about else None,
                    **({"client": actor.client} if actor.client else {}),
                },
            )
        )
