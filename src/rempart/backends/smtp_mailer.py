"""Mails over SMTP (RFC 5321), handed over encrypted to a relay whose certificate is verified (RFC 8314, RFC 3207)."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass, field

from rempart.kernel.errors import Unavailable

from .file_mailer import message

TIMEOUT = 10.0  # seconds for each step
AT_ONCE = 4


@dataclass(frozen=True)
class Relay:
    """`security` is `tls` (from the first byte), `starttls`, or `none`: a relay on this host. `ca`: a PEM file."""

    host: str
    port: int
    security: str
    sender: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""


class SmtpMailer:
    """Implements `people.ports.Mailer`. One connection a message, `AT_ONCE` beside each other."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def send(self, to: str, subject: str, text: str) -> None:
        async with self._turn:
            try:
                await asyncio.to_thread(self._deliver, to, subject, text)
            except (OSError, smtplib.SMTPException) as error:  # its text may quote the message: it stays untold
                raise Unavailable(
                    "mail_unavailable",
                    f"the mail relay did not take the message ({type(error).__name__})",
                    "see [people.mail] in rempart.toml",
                ) from None

    def _deliver(self, to: str, subject: str, text: str) -> None:
        relay = self._relay
        with self._connect() as smtp:
            if relay.security == "starttls":
                smtp.starttls(context=_context(relay.ca))
            if relay.username:
                smtp.login(relay.username, relay.password)
            smtp.send_message(message(relay.sender, to, subject, text), relay.sender, [to])

    def _connect(self) -> smtplib.SMTP:
        relay = self._relay
        if relay.security == "tls":
            return smtplib.SMTP_SSL(relay.host, relay.port, timeout=TIMEOUT, context=_context(relay.ca))
        return smtplib.SMTP(relay.host, relay.port, timeout=TIMEOUT)


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
