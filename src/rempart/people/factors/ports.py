"""What this room needs of others. `tests/contract/test_factor_store.py` runs on every store."""

from __future__ import annotations

from typing import Protocol

from rempart.kernel.event import Event

from ..model import Account
from .model import Change, Held, Passkey


class FactorStore(Protocol):
    """Durable factors, beside the accounts in one database. All raise Unavailable `store_unavailable`."""

    async def held(self, account_id: str) -> Held: ...

    async def by_credential(self, credential_id: bytes) -> Passkey | None: ...

    async def change(self, account: Account, change: Change, event: Event) -> None:
        """Write `change`, the version, epoch and time of `account`, and the event for the outbox; all or nothing.

        Raises Conflict `stale_version` when the version is not one more than the stored one, `passkey_known` when the
        credential is registered, NotFound `no_such_passkey`.
        """

    async def rename_passkey(self, account_id: str, passkey_id: str, name: str) -> bool: ...

    async def advance(self, passkey_id: str, counter: int, now: float) -> bool:
        """Note a use. False, and nothing changes, unless `counter` grew or both are 0 (WebAuthn 3, section 6.1.1)."""

    async def spend_backup_code(self, account_id: str, code_hash: bytes) -> bool:
        """True for one caller only; the code is gone."""
