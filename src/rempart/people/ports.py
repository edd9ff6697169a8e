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

    async def revoke_all(
        self, account_id: str, why: str, now: float, *, client_id: str | None = None, session_id: str | None = None
    ) -> int:
        """How many living families of the account this call ended: all, or those of one client or one session."""

    async def find(self, family_id: str) -> tuple[RefreshFamily, bytes] | None:
        """A family and the SHA-256 of its newest token."""

    async def of_account(self, account_id: str) -> Sequence[RefreshFamily]:
        """Newest first, ended ones included until they are swept."""

    async def knows_network(self, account_id: str, network: str) -> bool:
        """Whether a family of this account was opened from there."""

    async def sweep(self, before: float) -> int:
        """Forget families that expired or were revoked before that time."""


class OnceStore(Protocol):
    """Short-lived records that are used once: codes, pushed requests, device codes, links, challenges, `jti`s.

    `kind` is a word of the caller's, `key` a SHA-256 of what the client holds, `value` sealed by the caller where it
    is confidential, `expires_at` in seconds since the epoch: an expired record is as none. Durable as the backend is
    (SQL: on disk; Redis: as its persistence says). Raises Unavailable `store_unavailable`.
    """

    async def put(self, kind: str, key: bytes, value: bytes, expires_at: float) -> bool:
        """False when a living record has this key: nothing is changed. Serves as "seen before?" for a `jti`."""

    async def peek(self, kind: str, key: bytes) -> bytes | None: ...

    async def take(self, kind: str, key: bytes) -> bytes | None:
        """The record, and it is gone: of many callers one gets it."""

    async def swap(self, kind: str, key: bytes, old: bytes, new: bytes) -> bool:
        """Replace the value if it still is `old`; keeps its end."""

    async def sweep(self, before: float) -> int: ...


class RingStore(Protocol):
    """One document in versions, shared by all instances. Raises Unavailable `store_unavailable`."""

    async def load(self, newer_than: int) -> tuple[int, bytes] | None:
        """The version and the document; None when there is none newer."""

    async def save(self, version: int, sealed: bytes) -> bool:
        """In place of the version before it (1: of none); False when that is another now. Durable when it returns."""


class Mailer(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand one plain-text message over; raises Unavailable `mail_unavailable`. `text` may hold a link: log none."""


class Tally(Protocol):
    """Counters for the metrics page."""

    def login(self, outcome: str) -> None:
        """`success`, `failed`, `throttled` or `busy`."""

    def refresh(self, outcome: str) -> None:
        """`success` or `refused`."""

    def token(self, grant: str, outcome: str) -> None:
        """`grant`: a grant type that is enabled; `success` or `refused`."""
