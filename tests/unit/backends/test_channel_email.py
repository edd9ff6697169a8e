"""A mail to several people: each gets a notice once, whatever the others' mailboxes do."""

from __future__ import annotations

import asyncio

import pytest

from rempart.backends.channel_email import EmailChannel
from rempart.detection.alerting.model import Notice
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Severity


class Mailer:
    """Implements `people.ports.Mailer`: refuses `refused`."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.sent: list[tuple[str, str]] = []

    async def send(self, to: str, subject: str, text: str) -> None:
        if to in self.refused:
            raise Unavailable("mail_unavailable", "the mail relay did not take the message")
        self.sent.append((to, text.split()[-1]))


def notice(number: int) -> Notice:
    id = f"ntc_{number}"
    return Notice(id=id, kind="firing", at=0.0, rule="r", title="t", severity=Severity.HIGH, incidents=())


def tries(channel: EmailChannel, which: Notice, most: int) -> int:
    """How many until it was taken."""
    for count in range(1, most + 1):
        try:
            asyncio.run(channel.send(which))
            return count
        except Unavailable:
            continue
    return 0


def test_who_has_it_does_not_get_it_again_and_a_dead_address_does_not_hold_the_others_for_ever() -> None:
    mailer = Mailer()
    channel = EmailChannel(mailer, ["ann@x", "gone@x", "bob@x"])
    mailer.refused = {"gone@x"}
    assert tries(channel, notice(1), 20) == 5
    assert tries(channel, notice(2), 20) == 5
    assert mailer.sent == [("ann@x", "ntc_1"), ("bob@x", "ntc_1"), ("ann@x", "ntc_2"), ("bob@x", "ntc_2")]


def test_a_mailbox_that_is_back_gets_what_it_missed() -> None:
    mailer = Mailer()
    channel = EmailChannel(mailer, ["ann@x", "bob@x"])
    mailer.refused = {"bob@x"}
    with pytest.raises(Unavailable):
        asyncio.run(channel.send(notice(1)))
    mailer.refused = set()
    asyncio.run(channel.send(notice(1)))
    assert mailer.sent == [("ann@x", "ntc_1"), ("bob@x", "ntc_1")]


def test_nobody_reached_is_tried_for_ever() -> None:
    mailer = Mailer()
    mailer.refused = {"ann@x", "bob@x"}
    assert tries(EmailChannel(mailer, ["ann@x", "bob@x"]), notice(1), 20) == 0
