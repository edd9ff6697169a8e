"""Mails as files, for development: `NUMBER.eml` in one directory, readable by their owner alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from rempart.kernel.errors import Unavailable
from rempart.kernel.ids import new_id

KEEP = 200  # messages; older ones are removed


def message(sender: str, to: str, subject: str, text: str) -> EmailMessage:
    """A plain-text message; the headers can hold no line break (the library refuses them)."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, to, subject
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail.set_content(text, cte="quoted-printable")
    return mail


class FileMailer:
    """Implements `people.ports.Mailer`. Who can read the directory can use the links in it."""

    def __init__(self, directory: Path, sender: str) -> None:
        self._directory, self._sender = directory, sender

    async def send(self, to: str, subject: str, text: str) -> None:
        try:
            await asyncio.to_thread(self._write, message(self._sender, to, subject, text))
        except OSError as error:
            raise Unavailable(
                "mail_unavailable", f"the outbox can't be written: {error.strerror}", "see that its disk is not full"
            ) from None

    def _write(self, mail: EmailMessage) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / f"{new_id('mail')}.eml"  # ids sort by time
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(mail.as_bytes())
        for old in sorted(self._directory.glob("*.eml"))[:-KEEP]:
            with contextlib.suppress(FileNotFoundError):  # another instance was faster
                old.unlink()
