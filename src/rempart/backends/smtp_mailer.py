"""Mails over SMTP (RFC 5321), handed over encrypted to a relay whose certificate is verified (RFC 8314, RFC 3207)."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import IO, Any

from rempart.kernel.errors import Unavailable

from .file_mailer import message

TIMEOUT = 10.0  # seconds for each step
WITHIN = 60.0  # and for all of them
LARGEST = 1 << 16  # bytes of answers
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
            return _SmtpTls(relay.host, relay.port, timeout=TIMEOUT, context=_context(relay.ca))
        return _Smtp(relay.host, relay.port, timeout=TIMEOUT)


class _Answers:
    """What a relay says, LARGEST at most: smtplib keeps an answer of any number of lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, LARGEST

    def readline(self, size: int = -1) -> bytes:
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise smtplib.SMTPServerDisconnected("it answers without end")
        return line

    def close(self) -> None:
        self._file.close()


class _Smtp(smtplib.SMTP):
    """A relay that answers slowly or without end is cut off: it holds a thread, and memory, no longer than that."""

    _late: threading.Timer | None = None

    def getreply(self) -> tuple[int, bytes]:
        if self.sock is not None and self.file is None:
            self.file: Any = _Answers(self.sock.makefile("rb"))
        if self._late is None:
            self._late = threading.Timer(WITHIN, self._cut)
            self._late.daemon = True
            self._late.start()
        return super().getreply()

    def close(self) -> None:
        if self._late is not None:
            self._late.cancel()
        super().close()

    def _cut(self) -> None:
        if (connection := self.sock) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _SmtpTls(_Smtp, smtplib.SMTP_SSL):
    """From the first byte."""


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
