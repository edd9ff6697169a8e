"""Codes that a person types: of an authenticator app (RFC 6238) and backup codes, each good once."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from rempart.crypto.aead import seal, unseal
from rempart.crypto.totp import DIGITS, matching_step, new_secret
from rempart.kernel.clock import Clock

from ..model import Credentials
from ..ports import AccountStore
from .ports import FactorStore

TOTP_CONTEXT = "people/totp/"
BACKUP_CODES = 10
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_LENGTH = 10  # 50 bits each
_READ_AS = str.maketrans("oil", "011", " -\N{EN DASH}\N{NO-BREAK SPACE}")


def seal_totp(key: bytes, account_id: str, secret: bytes) -> bytes:
    return seal(key, secret, (TOTP_CONTEXT + account_id).encode())


@dataclass(frozen=True)
class Codes:
    """`key` opens TOTP secrets, `backup_key` hashes backup codes: who has the store alone can try none."""

    accounts: AccountStore
    store: FactorStore
    clock: Clock
    key: bytes = field(repr=False)
    backup_key: bytes = field(repr=False)

    async def spend(self, account_id: str, credentials: Credentials, text: str) -> str:
        """ "" when the code was right and is now used up, else why not (for the record)."""
        plain = text[:64].strip().lower().translate(_READ_AS)
        if len(plain) == _LENGTH and plain.isascii():
            spent = await self.store.spend_backup_code(account_id, self._hash(account_id, plain))
            return "" if spent else "wrong backup code"
        if credentials.totp is None:
            return "no authenticator app"
        if len(plain) != DIGITS or not plain.isascii():
            return "wrong one-time code"
        secret = unseal(self.key, credentials.totp, (TOTP_CONTEXT + account_id).encode())
        step = matching_step(secret, plain, self.clock.now())
        if step is None:
            return "wrong one-time code"
        if not await self.accounts.use_step(account_id, step):
            return "one-time code used before"
        return ""

    def decoy(self, account_id: str) -> bytes:
        """A sealed secret that nobody has."""
        return seal_totp(self.key, account_id, new_secret())

    def new_backup_codes(self, account_id: str) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """Ten, as they are shown once, and as they are stored."""
        plain = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(BACKUP_CODES)]
        return tuple(f"{code[:5]}-{code[5:]}" for code in plain), tuple(self._hash(account_id, code) for code in plain)

    def _hash(self, account_id: str, plain: str) -> bytes:
        return hmac.digest(self.backup_key, f"{account_id} {plain}".encode(), "sha256")
