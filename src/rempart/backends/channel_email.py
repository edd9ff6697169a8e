"""Notices by mail: plain text, one mail to each recipient."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rempart.detection.alerting.model import Notice
from rempart.kernel.errors import RempartError
from rempart.people.ports import Mailer

_log = logging.getLogger("rempart.notifier")
_TRIES = 5


class EmailChannel:
    """Implements `detection.alerting.ports.Channel`. Who has a notice doesn't get it again because of somebody else,
    and an address that never takes anything holds up the others for _TRIES attempts."""

    def __init__(self, mailer: Mailer, recipients: Sequence[str]) -> None:
        self._mailer, self._recipients = mailer, recipients
        self._notice = ""
        self._left: list[str] = []
        self._tries = 0

    async def send(self, notice: Notice) -> None:
        if notice.id != self._notice:
            self._notice, self._left, self._tries = notice.id, list(self._recipients), 0
        self._tries += 1
        text = "\n".join([*notice.lines(), "", f"notice {notice.id}", ""])
        trouble: RempartError | None = None
        for recipient in tuple(self._left):
            try:
                await self._mailer.send(recipient, notice.subject(), text)
                self._left.remove(recipient)
            except RempartError as error:
                trouble = error
        if trouble is None:
            return
        if self._tries < _TRIES or len(self._left) == len(self._recipients):
            raise trouble
        _log.error("%d of %d recipients did not get %s", len(self._left), len(self._recipients), notice.id)

    async def close(self) -> None:
        return
