"""Links that arrive by mail and work once: to choose a new password, to accept an invitation, to lose all factors.

A link is 256 random bits in the query (`token`, which no record keeps), known to us by its SHA-256 only. It dies at
its use, at its end, when a newer one of its kind is sent, and with the account's epoch: a new password, a new role and
disabling end it. Whoever asks for one learns nothing: the answer is given before anybody looks whether the address has
an account.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from ..accounts import Accounts, Actor
from ..collapse import Collapse
from ..model import Account, Origin, normalise_email
from ..ports import AccountStore, Mailer, OnceStore
from .allowance import Allowance
from .letters import letter


class LinkKind(StrEnum):
    RESET = "reset"
    INVITE = "invite"
    FACTOR_RESET = "factor-reset"


LIVES = {LinkKind.RESET: 1800, LinkKind.INVITE: 3 * 86400, LinkKind.FACTOR_RESET: 1800}  # seconds
PAGES = {LinkKind.RESET: "reset", LinkKind.INVITE: "invitation", LinkKind.FACTOR_RESET: "factor-reset"}
PER_ADDRESS = 3  # an hour; more are silently not sent
PER_NETWORK = 20  # an hour; more are refused
AT_ONCE = 64  # requests being worked on
_PAUSES = (2.0, 10.0)  # seconds before a mail is tried again
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_LINK, _LATEST, _ASKED = "link", "link-of", "link-asked"


@dataclass(frozen=True, slots=True)
class Link:
    """What a living token stands for."""

    kind: LinkKind
    account: Account


class _Kept(msgspec.Struct, frozen=True):
    kind: LinkKind
    account: str
    epoch: int


class Links:
    """`issuer` is what links begin with; `key` names addresses in records without telling them."""

    def __init__(
        self,
        once: OnceStore,
        store: AccountStore,
        accounts: Accounts,
        mailer: Mailer,
        recorder: Recorder,
        refusals: Collapse,
        clock: Clock,
        *,
        issuer: str,
        key: bytes,
        service: str,
    ) -> None:
        self._once, self._store, self._accounts, self._mailer = once, store, accounts, mailer
        self._recorder, self._refusals, self._clock = recorder, refusals, clock
        self._issuer, self._key, self._service = issuer.rstrip("/"), key, service
        self._networks = Allowance(clock, PER_NETWORK, 3600.0)
        self._working: set[asyncio.Task[None]] = set()

    def request(self, email: str, kind: LinkKind, origin: Origin, *, language: str = "en") -> None:
        """Whoever types an address. Returns at once, alike for every address; the mail follows if it has an account.

        `kind` is RESET: the others are an administrator's to send. Raises Throttled `too_many_links`, by the network
        alone.
        """
        if kind is not LinkKind.RESET:
            raise ValueError("only administrators send other links")
        if len(self._working) >= AT_ONCE:
            raise _too_many(30)
        if wait := self._networks.wait(origin.network):
            raise _too_many(wait)
        task = asyncio.get_running_loop().create_task(self._answer(email, kind, origin, language))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def send(self, account: Account, kind: LinkKind, actor: Actor, *, language: str = "en") -> None:
        """An administrator's act. Raises Unavailable `mail_unavailable`, NotFound `account_disabled`."""
        if account.disabled:
            raise NotFound("account_disabled", "a disabled account gets no link", "enable it first")
        await self._send(account, kind, actor, language)

    async def look(self, token: str) -> Link:
        """What a token stands for, without using it up (mail scanners fetch links). Raises NotFound `link_dead`."""
        if not _TOKEN.fullmatch(token):
            raise _dead()
        kept = await self._once.peek(_LINK, _hash(token))
        if kept is None:
            raise _dead()
        link = msgspec.json.decode(kept, type=_Kept)
        account = await self._store.get(link.account)
        if account is None or account.disabled or account.epoch != link.epoch:
            raise _dead()
        return Link(link.kind, account)

    async def redeem(self, token: str, kind: LinkKind) -> Account:
        """Use a link up: of many callers one gets the account. Raises NotFound `link_dead`.

        Nothing is recorded here: what the caller does with it is.
        """
        link = await self.look(token)
        if link.kind is not kind or await self._once.take(_LINK, _hash(token)) is None:
            raise _dead()
        return link.account

    async def choose_password(self, token: str, password: str, origin: Origin) -> Account:
        """Use up a link of kind reset or invite for a password; every session and grant of the account ends.

        Raises NotFound `link_dead`, and BadInput `weak_password`, which leaves the link alive.
        """
        link = await self.look(token)
        if link.kind is LinkKind.FACTOR_RESET:
            raise _dead()
        self._accounts.vet_password(password, link.account)
        account = await self.redeem(token, link.kind)
        actor = Actor(origin, account.id, account.role)
        return (
            await self._accounts.reset_password(account.id, password, None, actor, why=f"link: {link.kind}")
        ).account

    async def close(self) -> None:
        """Give what was asked for a moment to be sent."""
        if self._working:
            await asyncio.wait(self._working, timeout=2.0)
        for task in self._working:
            task.cancel()

    async def _answer(self, email: str, kind: LinkKind, origin: Origin, language: str) -> None:
        try:
            try:
                address = normalise_email(email)
            except BadInput:
                address = ""
            alias = "eml_" + hmac.digest(self._key, address.encode(), "sha256").hex()[:24]
            found = await self._store.by_email(address) if address else None
            why = "" if await self._may_ask(alias) else "asked too often"
            if found is None or found[0].disabled:
                why = why or "no such account, or disabled"
            if why or found is None:
                event = self._event(kind, Actor(origin), None, why)
                await self._refusals.record(event, origin.network, alias)
                return
            await self._send(found[0], kind, Actor(origin), language, pauses=_PAUSES)
        except RempartError:
            return  # recorded where that was possible; whoever asked has their answer

    async def _may_ask(self, alias: str) -> bool:
        """At most `PER_ADDRESS` times an hour, over all instances."""
        hour = int(self._clock.now() // 3600)
        for number in range(PER_ADDRESS):
            key = hashlib.sha256(f"{alias} {hour} {number}".encode()).digest()
            if await self._once.put(_ASKED, key, b"", (hour + 1) * 3600.0):
                return True
        return False

    async def _send(
        self, account: Account, kind: LinkKind, actor: Actor, language: str, pauses: tuple[float, ...] = ()
    ) -> None:
        token = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        await self._keep(token, account, kind)
        await self._recorder.record(self._event(kind, actor, account, ""))
        url = f"{self._issuer}/{PAGES[kind]}?token={token}"
        subject, text = letter(kind, language, name=account.name, url=url, service=self._service, seconds=LIVES[kind])
        for pause in (*pauses, None):
            try:
                await self._mailer.send(account.email, subject, text)
                return
            except Unavailable:
                if pause is None:
                    await self._recorder.record(self._event(kind, actor, account, "the mail could not be sent"))
                    raise
                await asyncio.sleep(pause)

    async def _keep(self, token: str, account: Account, kind: LinkKind) -> None:
        digest, of, end = _hash(token), _of(account.id, kind), self._clock.now() + LIVES[kind]
        kept = msgspec.json.encode(_Kept(kind, account.id, account.epoch))
        await self._once.put(_LINK, digest, kept, end)
        for _ in range(8):  # only others that send to the same account at the same moment interfere
            older = await self._once.take(_LATEST, of)
            if older is not None:
                await self._once.take(_LINK, older)
            if await self._once.put(_LATEST, of, digest, end):
                return
        raise Unavailable("store_unavailable", "too many links are being sent to one account", "try again")

    def _event(self, kind: LinkKind, actor: Actor, account: Account | None, refused: str) -> Event:
        return actor.origin.stamp(
            Event(
                type=EventType.LINK_SENT,
                at=self._clock.now(),
                success=not refused,
                severity=Severity.LOW if refused else Severity.INFO,
                reason=refused,
                person=actor.person or (account.id if account and not actor.origin.operator else None),
                role=actor.role,
                details={
                    "link": str(kind),
                    "account": account.id if account else None,
                    "network": actor.origin.network,
                },
            )
        )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _of(account_id: str, kind: LinkKind) -> bytes:
    return hashlib.sha256(f"{kind} {account_id}".encode()).digest()


def _dead() -> NotFound:
    return NotFound(
        "link_dead", "this link has ended: it was used, it is too old, or a newer one was sent", "ask again"
    )


def _too_many(seconds: float) -> Throttled:
    return Throttled(
        "too_many_links", "too many links were asked for from here", "wait", retry_after=max(1, int(seconds + 0.999))
    )
