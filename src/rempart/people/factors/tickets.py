"""Tickets between the first proof and the second: sealed, so that no store is needed and any instance can go on."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Integrity, Unauthenticated

from ..model import Account

LIFETIME = 600.0  # seconds: time to find the phone
_CONTEXT = b"people/second-factor"
_MOST = 2048  # characters


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Who proved what, by which methods. `device` is the known device's id. It dies with the account's epoch."""

    account_id: str
    epoch: int
    amr: tuple[str, ...]
    device: str | None
    issued_at: float


@dataclass(frozen=True)
class Tickets:
    """`key` seals tickets and is no other purpose's."""

    key: bytes
    clock: Clock

    def issue(self, account: Account, amr: tuple[str, ...], device: str | None) -> str:
        return self._seal(Ticket(account.id, account.epoch, amr, device, self.clock.now()))

    def pretend(self) -> None:
        """The work of `issue`."""
        self._seal(Ticket("usr_nobody", 1, ("pwd",), None, 0.0))

    def _seal(self, ticket: Ticket) -> str:
        return base64.urlsafe_b64encode(seal(self.key, msgspec.json.encode(ticket), _CONTEXT)).rstrip(b"=").decode()

    def open(self, text: str) -> Ticket:
        """Raises Unauthenticated `sign_in_expired`."""
        try:
            if len(text) > _MOST:
                raise ValueError
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            ticket = msgspec.json.decode(unseal(self.key, raw, _CONTEXT), type=Ticket)
        except (Integrity, binascii.Error, ValueError, msgspec.DecodeError):
            raise expired() from None
        if ticket.issued_at + LIFETIME <= self.clock.now():
            raise expired()
        return ticket


def expired() -> Unauthenticated:
    return Unauthenticated("sign_in_expired", "this sign-in took too long or was not begun here", "sign in again")
