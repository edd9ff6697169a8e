"""Links by mail: one use, one at a time, and nothing to learn from asking."""

from __future__ import annotations

import asyncio
import email
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from tests.people_harness import PASSWORD, Harness, harness

from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled, Unavailable
from rempart.people.accounts import Actor
from rempart.people.administration.links import PER_ADDRESS, PER_NETWORK, LinkKind, Links
from rempart.people.model import Account, Origin

FRESH = "another slow lantern by the sea 7"
HERE = Origin(ip="203.0.113.9", request_id="req-9")
OPERATOR = Actor(Origin(operator="uid:1000"))


class MemoryMailer:
    """`failing`: how many more times it refuses."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.failing = 0

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.failing:
            self.failing -= 1
            raise Unavailable("mail_unavailable", "the relay is down")
        self.sent.append((to, subject, text))

    def token(self, at: int = -1) -> str:
        found = re.search(r"\?token=([A-Za-z0-9_-]{43})\s", self.sent[at][2])
        assert found, self.sent[at][2]
        return found[1]


class Scene:
    def __init__(self, h: Harness, account: Account) -> None:
        self.h, self.account, self.mailer = h, account, MemoryMailer()
        self.links: Links = h.people.administration.links
        self.links._mailer = self.mailer

    async def asked(self, address: str, origin: Origin = HERE) -> None:
        self.links.request(address, LinkKind.RESET, origin)
        while self.links._working:
            await asyncio.gather(*self.links._working)
            await asyncio.sleep(0)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with harness() as h:
        made = await h.add("ann@bank.example")
        yield Scene(h, await h.people.accounts.get(made["id"]))


def play(body: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with scene() as s:
            await body(s)

    asyncio.run(run())


def test_a_link_sets_a_password_once_and_ends_what_was_granted() -> None:
    async def body(s: Scene) -> None:
        before = (await s.h.login("ann@bank.example")).json()
        await s.asked("Ann@Bank.example ")
        to, subject, text = s.mailer.sent[0]
        assert (to, subject) == ("ann@bank.example", "Choose a new password for bank.example")
        assert "https://localhost:8443/auth/reset?token=" in text
        token = s.mailer.token()
        assert (await s.links.look(token)).account.id == s.account.id
        assert (await s.links.look(token)).kind is LinkKind.RESET  # looking, as a mail scanner does, uses nothing up
        with pytest.raises(BadInput, match="fewer"):
            await s.links.choose_password(token, "password", HERE)
        await s.links.choose_password(token, FRESH, HERE)
        assert (await s.h.login("ann@bank.example", FRESH)).status_code == 200
        assert (await s.h.login("ann@bank.example", PASSWORD)).status_code == 401
        assert (await s.h.refresh(before["refresh_token"])).status_code == 400
        for use in (s.links.look(token), s.links.choose_password(token, FRESH + "8", HERE)):
            with pytest.raises(NotFound) as refused:
                await use
            assert refused.value.code == "link_dead"

    play(body)


def test_of_many_who_use_a_link_at_once_one_succeeds() -> None:
    async def body(s: Scene) -> None:
        await s.asked("ann@bank.example")
        token = s.mailer.token()
        outcomes = await asyncio.gather(
            *(s.links.choose_password(token, f"{FRESH} number {n}", HERE) for n in range(8)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
        assert all(isinstance(outcome, Account | RempartError) for outcome in outcomes)

    play(body)


async def newer(s: Scene) -> None:
    await s.asked("ann@bank.example")


async def new_password(s: Scene) -> None:
    await s.h.people.accounts.reset_password(s.account.id, FRESH, None, OPERATOR)


async def new_role(s: Scene) -> None:
    await s.h.people.accounts.change(s.account.id, {"role": "finance"}, OPERATOR)


async def disabled(s: Scene) -> None:
    await s.h.people.accounts.change(s.account.id, {"disabled": True}, OPERATOR)


async def later(s: Scene) -> None:
    s.h.clock.advance(1801)


@pytest.mark.parametrize("what", [newer, new_password, new_role, disabled, later])
def test_a_link_ends_with(what: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def body(s: Scene) -> None:
        await s.asked("ann@bank.example")
        token = s.mailer.token()
        await what(s)
        with pytest.raises(NotFound):
            await s.links.choose_password(token, FRESH, HERE)
        with pytest.raises(NotFound):
            await s.links.look(token)

    play(body)


def test_links_sent_at_the_same_moment_leave_one_alive() -> None:
    async def body(s: Scene) -> None:
        await asyncio.gather(*(s.links.send(s.account, LinkKind.RESET, OPERATOR) for _ in range(6)))
        alive = 0
        for at in range(6):
            try:
                await s.links.look(s.mailer.token(at))
            except NotFound:
                continue
            alive += 1
        assert alive == 1

    play(body)


def test_a_link_of_one_kind_does_nothing_of_another() -> None:
    async def body(s: Scene) -> None:
        await s.links.send(s.account, LinkKind.FACTOR_RESET, OPERATOR)
        token = s.mailer.token()
        with pytest.raises(NotFound):
            await s.links.choose_password(token, FRESH, HERE)
        with pytest.raises(NotFound):
            await s.links.redeem(token, LinkKind.RESET)
        assert (await s.links.redeem(token, LinkKind.FACTOR_RESET)).id == s.account.id
        await s.links.send(s.account, LinkKind.FACTOR_RESET, OPERATOR)
        uses = (s.links.redeem(s.mailer.token(), LinkKind.FACTOR_RESET) for _ in range(8))
        outcomes = await asyncio.gather(*uses, return_exceptions=True)
        assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
        for nonsense in ("", "x", "A" * 43, "é" * 43, "A" * 10_000):
            with pytest.raises(NotFound):
                await s.links.look(nonsense)

    play(body)


def test_whoever_asks_learns_nothing_and_the_record_tells() -> None:
    async def body(s: Scene) -> None:
        await s.h.people.accounts.change(s.account.id, {"disabled": True}, OPERATOR)
        for address in ("nobody@bank.example", "ann@bank.example", "not an address", "x" * 100_000):
            await s.asked(address)
        assert not s.mailer.sent
        events = [event for event in s.h.recorder.events if event.type == "people.link_sent"]
        assert events
        assert not any(event.success for event in events)
        assert "nobody@" not in str(events)

    play(body)


def test_asking_is_answered_before_anybody_looks() -> None:
    async def body(s: Scene) -> None:
        looked = asyncio.Event()

        async def by_email(address: str) -> None:
            looked.set()

        s.links._store.by_email = by_email  # type: ignore[method-assign,assignment]
        s.links.request("ann@bank.example", LinkKind.RESET, HERE)
        assert not looked.is_set()
        await asyncio.gather(*s.links._working)
        assert looked.is_set()

    play(body)


def test_an_address_gets_a_few_links_an_hour_and_a_network_may_ask_for_more() -> None:
    async def body(s: Scene) -> None:
        for number in range(PER_ADDRESS + 3):
            await s.asked("ann@bank.example", Origin(ip=f"198.51.100.{number}"))
        assert len(s.mailer.sent) == PER_ADDRESS
        s.h.clock.advance(3600)
        await s.asked("ann@bank.example")
        assert len(s.mailer.sent) == PER_ADDRESS + 1
        await asyncio.gather(*(s.asked(f"n{number}@bank.example") for number in range(PER_NETWORK - 1)))
        with pytest.raises(Throttled) as refused:
            await s.asked("one-more@bank.example")
        assert 1 <= refused.value.retry_after <= 181
        await s.asked("n@bank.example", Origin(ip="198.51.100.77"))

    play(body)


def test_no_record_holds_the_token_and_the_store_only_its_hash() -> None:
    async def body(s: Scene) -> None:
        await s.asked("ann@bank.example")
        token = s.mailer.token()
        assert token not in str(s.h.recorder.events)
        rows = await s.h.people.database.read(lambda tx: tx.execute("SELECT * FROM once_records").fetchall())
        assert rows
        assert token not in str(rows)

    play(body)


def test_a_relay_that_is_down_is_told_to_the_administrator_and_recorded() -> None:
    async def body(s: Scene) -> None:
        s.mailer.failing = 1
        with pytest.raises(Unavailable):
            await s.links.send(s.account, LinkKind.INVITE, OPERATOR)
        last = s.h.recorder.events[-1]
        assert (last.success, last.reason, last.operator) == (False, "the mail could not be sent", "uid:1000")

    play(body)


def test_nothing_is_sent_that_could_not_be_recorded() -> None:
    async def body(s: Scene) -> None:
        s.h.recorder.failing = Unavailable("journal_unavailable", "full")
        with pytest.raises(Unavailable):
            await s.links.send(s.account, LinkKind.RESET, OPERATOR)
        await s.asked("ann@bank.example")
        assert not s.mailer.sent

    play(body)


@pytest.mark.parametrize(("language", "word"), [("en", "Hello Ann,"), ("fr", "Bonjour Ann,"), ("tlh", "Hello Ann,")])
def test_mails_speak_english_and_french(language: str, word: str) -> None:
    async def body(s: Scene) -> None:
        account = await s.h.people.accounts.change(s.account.id, {"name": "Ann"}, OPERATOR)
        for kind in LinkKind:
            await s.links.send(account, kind, OPERATOR, language=language)
            assert word in s.mailer.sent[-1][2]

    play(body)


def test_a_name_that_looks_like_a_link_stays_out_of_the_mail() -> None:
    async def body(s: Scene) -> None:
        account = await s.h.people.accounts.change(s.account.id, {"name": "Win at https://evil.example"}, OPERATOR)
        await s.links.send(account, LinkKind.RESET, OPERATOR)
        assert "evil" not in s.mailer.sent[-1][2]

    play(body)


def test_the_outbox_for_development_is_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    from rempart.backends.file_mailer import KEEP, FileMailer

    async def body() -> None:
        mailer = FileMailer(tmp_path / "outbox", "no-reply@bank.example")
        for number in range(KEEP + 3):
            await mailer.send("ann@bank.example", f"Sujet é {number}", "Une ligne\n\nhttps://x?token=" + "A" * 90)

    asyncio.run(body())
    files = sorted((tmp_path / "outbox").iterdir())
    assert len(files) == KEEP
    assert files[-1].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    mail = email.message_from_bytes(files[-1].read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    assert (mail["To"], mail["Subject"], mail["Auto-Submitted"]) == (
        "ann@bank.example",
        f"Sujet é {KEEP + 2}",
        "auto-generated",
    )
    assert "A" * 90 in mail.get_content()
