"""Setting up an authenticator app: the secret is temporary, sealed and unused until a code of it came back."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field

from rempart.crypto.aead import seal, unseal
from rempart.crypto.totp import base32, matching_step, new_secret, uri
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, Unauthenticated

from ..ports import OnceStore
from .codes import seal_totp
from .model import Person, TotpSetup

LIFETIME = 600.0  # seconds: time to install an app
_KIND = "totp-setup"


@dataclass(frozen=True)
class TotpSetups:
    """`key` opens TOTP secrets; `service` is what apps show beside the code."""

    once: OnceStore
    clock: Clock
    service: str
    key: bytes = field(repr=False)

    async def begin(self, who: Person) -> TotpSetup:
        """A new secret, or the one of a moment ago if it waits for its code.

        Each sign-in has its own: who is signed in elsewhere must not have seen the one that is confirmed here.
        """
        secret = new_secret()
        sealed = seal(self.key, secret, _context(who))
        if not await self.once.put(_KIND, _id(who), sealed, self.clock.now() + LIFETIME):
            waiting = await self.once.peek(_KIND, _id(who))
            if waiting is None:  # confirmed or expired this moment
                raise _none()
            secret = unseal(self.key, waiting, _context(who))
        text = uri(secret, issuer=self.service, account=who.account.email)
        return TotpSetup(secret=base32(secret), uri=text, svg=_qr(text))

    async def confirm(self, who: Person, code: str) -> tuple[bytes, int]:
        """The sealed secret and the step of the code, which counts as used.

        Raises Unauthenticated `factor_failed`: the secret still waits; Conflict `no_totp_setup`.
        """
        waiting = await self.once.peek(_KIND, _id(who))
        if waiting is None:
            raise _none()
        secret = unseal(self.key, waiting, _context(who))
        step = matching_step(secret, "".join(code[:32].split()), self.clock.now())
        if step is None:
            raise Unauthenticated(
                "factor_failed", "this code is wrong", "give the app's newest one; is your device's clock right?"
            )
        if await self.once.take(_KIND, _id(who)) != waiting:
            raise _none()
        return seal_totp(self.key, who.account.id, secret), step


def _qr(text: str) -> bytes:
    import segno  # only who sets an app up pays for it

    out = io.BytesIO()
    segno.make_qr(text, error="m").save(
        out, kind="svg", scale=5, border=4, xmldecl=False, svgclass=None, lineclass=None
    )
    return out.getvalue()


def _id(who: Person) -> bytes:
    return hashlib.sha256(_context(who)).digest()


def _context(who: Person) -> bytes:
    return f"people/totp-setup/{who.account.id}/{who.session}/{who.auth_time!r}".encode()


def _none() -> Conflict:
    return Conflict("no_totp_setup", "no authenticator app is being set up, or it took too long", "begin again")
