"""What sessions need of others. The contract suite `tests/contract/test_session_store.py` runs on every store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .model import Stored


class SessionStore(Protocol):
    """Sessions shared by all instances. A session past its `ends_at` is as none. All raise Unavailable
    `store_unavailable`: a store that is gone must never look like a session that is gone.
    """

    async def open(self, session: Stored, *, keep: int) -> Sequence[str]:
        """Add it; the ids of the account's oldest ones beyond `keep`, which ended by this."""

    async def find(self, token_hash: bytes, now: float) -> Stored | None: ...

    async def by_id(self, session_id: str, now: float) -> Stored | None: ...

    async def touch(self, token_hash: bytes, seen_at: float, ends_at: float) -> bool:
        """False when nobody has this token any more."""

    async def replace(self, token_hash: bytes, session: Stored) -> bool:
        """`session` in place of the one of the same id with that token, once: of many callers one gets True."""

    async def end(self, session_id: str) -> bool:
        """True for the caller that ended it."""

    async def of_account(self, account_id: str, now: float) -> Sequence[Stored]:
        """Newest first."""

    async def sweep(self, now: float) -> int:
        """Forget those that are past their end."""


class SessionEnding(Protocol):
    """Who must know when a session ends: back-channel logout, refresh families. Told before it ends, so that a crash
    forgets nobody, and once more after, for what was granted meanwhile."""

    async def session_ends(self, session_id: str, account_id: str) -> None:
        """Durable when it returns. Called again when the session's end could not be written."""
