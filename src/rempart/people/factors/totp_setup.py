"""Setting up an authenticator app: the secret is temporary, sealed and unused until a code of it came back."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field

from rempart.crypto.aead import seal, unseal
from rempart.crypto.totp import base32, matching_step, new_secret, uri
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, Unauthenticated

from ..model import Account
from ..ports import OnceStore
from .codes import seal_totp
from .model import TotpSetup

LIFETIME = 600.0  # seconds: time to install an app
_KIND = "totp-setup"


@dataclass(frozen=True)
class TotpSetups:
    """`key` opens TOTP secrets; `service` is what apps show beside the code."""

    once: OnceStore
    clock: Clock
    service: str
    key: bytes = field(repr=False)

    async def begin(self, account: Account) -> TotpSetup:
        """A new secret, or the one of a moment ago if it waits for its code."""
        secret = new_secret()
        sealed = seal(self.key, secret, _context(account))
        if not await self.once.put(_KIND, _id(account), sealed, self.clock.now() + LIFETIME):
            waiting = await self.once.peek(_KIND, _id(account))
            if waiting is None:  # confirmed or expired this moment
                raise _none()
            secret = unseal(self.key, waiting, _context(account))
        text = uri(secret, issuer=self.service, account=account.email)
        return TotpSetup(secret=base32(secret), uri=text, svg=_qr(text))

    async def confirm(self, account: Account, code: str) -> tuple[bytes, int]:
        """The sealed secret and the step of the code, which counts as used.

        Raises Unauthenticated `factor_failed`: the secret still waits; Conflict `no_totp_setup`.
        """
        waiting = await self.once.peek(_KIND, _id(account))
        if waiting is None:
            raise _none()
        secret = unseal(self.key, waiting, _context(account))
        step = matching_step(secret, "".join(code[:32].split()), self.clock.now())
        if step is None:
            raise Unauthenticated(
                "factor_failed", "this code is wrong", "give the app's newest one; is your device's clock right?"
            )
        if await self.once.take(_KIND, _id(account)) != waiting:
            raise _none()
        return seal_totp(self.key, account.id, secret), step


def _qr(text: str) -> bytes:
    import segno  # only who sets an app up pays for it

    out = io.BytesIO()
    segno.make_qr(text, error="m").save(
        out, kind="svg", scale=5, border=4, xmldecl=False, svgclass=None, lineclass=None
    )
    return out.getvalue()


def _id(account: Account) -> bytes:
    return hashlib.sha256(account.id.encode()).digest()


def _context(account: Account) -> bytes:
    return f"people/totp-setup/{account.id}".encode()


def _none() -> Conflict:
    return Conflict("no_totp_setup", "no authenticator app is being set up, or it took too long", "begin again")
