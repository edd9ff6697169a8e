"""What this room needs of others. The contract suite `tests/contract/test_account_store.py` runs on every store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rempart.kernel.event import Event

from .model import Account, Credentials, RefreshFamily, Rotation


class AccountStore(Protocol):
    """Durable accounts. Every method returns when its effect is on disk; all raise Unavailable `store_unavailable`.

    Changes carry the event that tells of them; both are written in one transaction, so a crash never leaves a change
    that nobody recorded: the event waits in the `Outbox` until the journal has it.
    """

    async def add(self, account: Account, credentials: Credentials, event: Event) -> None:
        """Raises Conflict `email_taken`."""

    async def get(self, account_id: str) -> Account | None: ...

    async def by_email(self, email: str) -> tuple[Account, Credentials] | None:
        """`email` is normalised."""

    async def page(self, after: str, limit: int) -> Sequence[Account]:
        """In the order of ids, from the first one greater than `after`."""

    async def replace(self, account: Account, event: Event) -> None:
        """Write `account` over the one whose version is one less.

        Raises Conflict `stale_version`, `email_taken`, or `last_admin` when no enabled administrator would be left.
        """

    async def set_credentials(
        self, account: Account, password_hash: str | None, totp: bytes | None, event: Event | None
    ) -> None:
        """As `replace`, and the given credentials with it; None keeps the old. Without event the version stays."""

    async def use_step(self, account_id: str, step: int) -> bool:
        """True for the first caller only; False when this or a later step was used before."""


class Outbox(Protocol):
    """Events of committed changes that the journal may not have yet."""

    async def pending(self) -> Sequence[Event]: ...

    async def settle(self, event_id: str) -> None: ...


class RefreshStore(Protocol):
    """Families of refresh tokens; a token is known by its SHA-256 only."""

    async def open(self, family: RefreshFamily, token_hash: bytes, *, keep: int) -> None:
        """Add a family; the account's oldest live ones beyond `keep` are revoked, all beyond twice that forgotten."""

    async def rotate(
        self, family_id: str, presented: bytes, successor: bytes, sealed: bytes, *, now: float, grace: float
    ) -> Rotation:
        """Replace the current token by its successor, once: of many callers with one token one gets `Rotated`."""

    async def revoke(self, family_id: str, why: str, now: float) -> RefreshFamily | None:
        """The family if this call ended it."""

    async def revoke_all(self, account_id: str, why: str, now: float) -> int: ...

    async def of_account(self, account_id: str) -> Sequence[RefreshFamily]:
        """Newest first, ended ones included until they are swept."""

    async def knows_network(self, account_id: str, network: str) -> bool:
        """Whether a family of this account was opened from there."""

    async def sweep(self, before: float) -> int:
        """Forget families that expired or were revoked before that time."""


class Tally(Protocol):
    """Counters for the metrics page."""

    def login(self, outcome: str) -> None:
        """`success`, `failed`, `throttled` or `busy`."""

    def refresh(self, outcome: str) -> None:
        """`success` or `refused`."""
