"""Notices by mail: plain text, one mail to each recipient."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.detection.alerting.model import Notice
from rempart.people.ports import Mailer


class EmailChannel:
    """Implements `detection.alerting.ports.Channel`."""

    def __init__(self, mailer: Mailer, recipients: Sequence[str]) -> None:
        self._mailer, self._recipients = mailer, recipients

    async def send(self, notice: Notice) -> None:
        text = "\n".join([*notice.lines(), "", f"notice {notice.id}", ""])
        for recipient in self._recipients:
            await self._mailer.send(recipient, notice.subject(), text)

    async def close(self) -> None:
        return
