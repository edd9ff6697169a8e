"""In-memory doubles of what the people room needs, for unit tests; the contract suite runs on the store, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import count

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import Conflict, RempartError
from rempart.kernel.event import Event
from rempart.kernel.principal import Role
from rempart.people.model import Account, Credentials, Dead, RefreshFamily, Repeated, Reused, Rotated, Rotation


def ready_keys() -> Callable[[str], SigningKey]:
    """`SigningKey.generate` for one ring, whose RSA keys were made for the rings of other tests: they cost 0.1 s."""
    numbers = count()
    return lambda algorithm: _rsa(next(numbers)) if algorithm == "RS256" else SigningKey.generate(algorithm)


@cache
def _rsa(number: int) -> SigningKey:
    return SigningKey.generate("RS256")


class MemoryRecorder:
    """`failing` is raised instead of recording."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failing: RempartError | None = None

    async def record(self, event: Event) -> None:
        if self.failing is not None:
            raise self.failing
        self.events.append(event)

    def types(self) -> list[str]:
        return [str(event.type) for event in self.events]


class MemoryTally:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def login(self, outcome: str) -> None:
        self.counts[f"login {outcome}"] = self.counts.get(f"login {outcome}", 0) + 1

    def refresh(self, outcome: str) -> None:
        self.counts[f"refresh {outcome}"] = self.counts.get(f"refresh {outcome}", 0) + 1

    def token(self, grant: str, outcome: str) -> None:
        self.counts[f"token {grant} {outcome}"] = self.counts.get(f"token {grant} {outcome}", 0) + 1


class MemoryAccounts:
    """Implements AccountStore, Outbox and RefreshStore."""

    def __init__(self) -> None:
        self._accounts: dict[str, tuple[Account, Credentials, int]] = {}
        self._outbox: dict[str, Event] = {}
        self._families: dict[str, tuple[RefreshFamily, bytes, bytes | None, bytes | None]] = {}

    def close(self) -> None:
        return

    async def add(self, account: Account, credentials: Credentials, event: Event) -> None:
        self._free(account)
        self._accounts[account.id] = (account, credentials, 0)
        self._outbox[event.id] = event

    async def get(self, account_id: str) -> Account | None:
        found = self._accounts.get(account_id)
        return found[0] if found else None

    async def by_email(self, email: str) -> tuple[Account, Credentials] | None:
        return next((found[:2] for found in self._accounts.values() if found[0].email == email), None)

    async def page(self, after: str, limit: int) -> Sequence[Account]:
        return [self._accounts[key][0] for key in sorted(self._accounts) if key > after][:limit]

    async def replace(self, account: Account, event: Event) -> None:
        before, credentials, step = self._accounts.get(account.id, (None, None, 0))
        if before is None or credentials is None or before.version != account.version - 1:
            raise Conflict("stale_version", "changed meanwhile")
        if _administers(before) and not _administers(account) and not any(
            _administers(other) for key, (other, _, _) in self._accounts.items() if key != account.id
        ):  # fmt: skip
            raise Conflict("last_admin", "the last one")
        self._free(account)
        self._accounts[account.id] = (account, credentials, step)
        self._outbox[event.id] = event

    async def set_credentials(
        self, account: Account, password_hash: str | None, totp: bytes | None, event: Event | None
    ) -> None:
        if event is not None:
            await self.replace(account, event)
        found = self._accounts.get(account.id)
        if found is None or found[0].version != account.version:
            raise Conflict("stale_version", "changed meanwhile")
        kept = found[1]
        fresh = Credentials(password_hash or kept.password_hash, kept.totp if totp is None else totp)
        held = replace(found[0], second_factor=fresh.totp is not None)
        self._accounts[account.id] = (held, fresh, found[2] if totp is None else 0)

    async def use_step(self, account_id: str, step: int) -> bool:
        found = self._accounts.get(account_id)
        if found is None or found[2] >= step:
            return False
        self._accounts[account_id] = (*found[:2], step)
        return True

    async def pending(self) -> Sequence[Event]:
        return list(self._outbox.values())

    async def settle(self, event_id: str) -> None:
        self._outbox.pop(event_id, None)

    async def open(self, family: RefreshFamily, token_hash: bytes, *, keep: int) -> None:
        self._families[family.id] = (family, token_hash, None, None)
        mine = [f for f in await self.of_account(family.account_id) if _alive(f, family.created_at)]
        for old in mine[keep:]:
            await self.revoke(old.id, "too_many", family.created_at)
        for old in (await self.of_account(family.account_id))[2 * keep :]:
            del self._families[old.id]

    async def rotate(
        self, family_id: str, presented: bytes, successor: bytes, sealed: bytes, *, now: float, grace: float
    ) -> Rotation:
        if family_id not in self._families:
            return Dead("unknown")
        family, current, previous, kept = self._families[family_id]
        if not _alive(family, now):
            return Dead(f"revoked: {family.revoked_for}" if family.revoked_at is not None else "expired", family)
        if presented == current:
            account = await self.get(family.account_id)
            if account is None or account.disabled or account.epoch != family.epoch:
                return Dead("the account was disabled or changed", family)
            family = replace(family, last_used_at=now)
            self._families[family_id] = (family, successor, current, sealed)
            return Rotated(family, account)
        if presented == previous and kept is not None and now - family.last_used_at <= grace:
            return Repeated(family, kept)
        revoked = await self.revoke(family_id, "reuse", now)
        return Reused(revoked or family)

    async def revoke(self, family_id: str, why: str, now: float) -> RefreshFamily | None:
        if family_id not in self._families or self._families[family_id][0].revoked_at is not None:
            return None
        family, current, previous, _ = self._families[family_id]
        family = replace(family, revoked_at=now, revoked_for=why)
        self._families[family_id] = (family, current, previous, None)
        return family

    async def revoke_all(
        self, account_id: str, why: str, now: float, *, client_id: str | None = None, session_id: str | None = None
    ) -> int:
        mine = [
            family
            for family in await self.of_account(account_id)
            if _alive(family, now) and client_id in (None, family.client_id) and session_id in (None, family.session_id)
        ]
        for family in mine:
            await self.revoke(family.id, why, now)
        return len(mine)

    async def find(self, family_id: str) -> tuple[RefreshFamily, bytes] | None:
        found = self._families.get(family_id)
        return (found[0], found[1]) if found else None

    async def of_account(self, account_id: str) -> Sequence[RefreshFamily]:
        mine = [family for family, *_ in self._families.values() if family.account_id == account_id]
        return sorted(mine, key=lambda family: (family.created_at, family.id), reverse=True)

    async def knows_network(self, account_id: str, network: str) -> bool:
        return any(family.network == network for family in await self.of_account(account_id))

    async def sweep(self, before: float) -> int:
        gone = [
            key
            for key, (family, *_) in self._families.items()
            if family.expires_at < before or (family.revoked_at is not None and family.revoked_at < before)
        ]
        for key in gone:
            del self._families[key]
        return len(gone)

    def _free(self, account: Account) -> None:
        if any(
            other.email == account.email or (key == account.id and other.version >= account.version)
            for key, (other, _, _) in self._accounts.items()
            if key != account.id or other.version >= account.version
        ):
            raise Conflict("email_taken", "taken")


def _administers(account: Account) -> bool:
    return account.role == Role.ADMIN and not account.disabled


def _alive(family: RefreshFamily, now: float) -> bool:
    return family.revoked_at is None and family.expires_at > now
