"""Codes of an authenticator app (RFC 6238), each good once."""

from __future__ import annotations

from dataclasses import dataclass, field

from rempart.crypto.aead import seal, unseal
from rempart.crypto.totp import matching_step
from rempart.kernel.clock import Clock

from ..model import Account, Credentials
from ..ports import AccountStore

TOTP_CONTEXT = "people/totp/"


def seal_totp(key: bytes, account_id: str, secret: bytes) -> bytes:
    return seal(key, secret, (TOTP_CONTEXT + account_id).encode())


@dataclass(frozen=True)
class Codes:
    """`key` opens TOTP secrets."""

    accounts: AccountStore
    clock: Clock
    key: bytes = field(repr=False)

    async def spend(self, account: Account, credentials: Credentials, text: str) -> str:
        """ "" when the code was right and is now used up, else why not (for the record)."""
        if credentials.totp is None:
            return "no authenticator app"
        secret = unseal(self.key, credentials.totp, (TOTP_CONTEXT + account.id).encode())
        step = matching_step(secret, text, self.clock.now())
        if step is None:
            return "wrong one-time code"
        if not await self.accounts.use_step(account.id, step):
            return "one-time code used before"
        return ""
