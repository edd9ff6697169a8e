"""Rooms for pages, in memory: one person, whatever they need of second factors, clients that wait."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.errors import BadInput, Conflict, NotFound, RempartError, Throttled, Unauthenticated
from rempart.people.model import Origin, clean_name
from rempart.people.pages.faces import Rooms
from rempart.people.pages.model import (
    Changed,
    Connected,
    DeviceWaiting,
    Entered,
    FactorChoice,
    Factors,
    HalfDone,
    Happening,
    LinkShown,
    Next,
    Passkey,
    Place,
    SignedIn,
    SignOutAsked,
    TotpSetup,
    Waiting,
)

EMAIL, PASSWORD, CODE, BACKUP = "ann@bank.example", "a quiet river of glass 42", "123456", "wxyz-2345"
CODES = tuple(f"{letter * 4}-2345" for letter in "abcdefghij")
QR = b'<svg xmlns="http://www.w3.org/2000/svg" width="41" height="41"><path d="M4 4h7v7H4zM20 20h9v9h-9z"/></svg>'


def _random() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


def _options() -> dict[str, Any]:
    return {"challenge": _random(), "rpId": "localhost", "timeout": 60000, "userVerification": "preferred"}


@dataclass
class Site:
    """Everything pages stand on. `client` is what an interaction of that handle waits for."""

    clock: Clock = field(default_factory=SystemClock)
    name: str = "Ann Example"
    totp: bool = False
    passkeys: list[Passkey] = field(default_factory=list)
    demanded: bool = False
    failing: RempartError | None = None
    client: Waiting = field(
        default_factory=lambda: Waiting(
            client_name="Example Shop",
            scopes=("openid", "profile", "email", "offline_access", "orders:read"),
            next=Next.CONSENT,
            redirect_host="shop.example",
            redirect_source="https://shop.example",
        )
    )
    sessions: dict[str, SignedIn] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)
    devices: dict[str, str] = field(default_factory=lambda: {"WDJB-MJHT": "pending"})
    mails: list[tuple[str, str]] = field(default_factory=list)
    links: dict[str, str] = field(
        default_factory=lambda: {name: name for name in ("reset", "invitation", "factor-reset")}
    )
    connected: list[Connected] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def rooms(self) -> Rooms:
        return Rooms(
            sessions=FakeSessions(self),
            signing_in=FakeSigningIn(self),
            interactions=FakeInteractions(self),
            devices=FakeDevices(self),
            sign_outs=FakeSignOuts(self),
            links=FakeLinks(self),
            factors=FakeFactors(self),
            account=FakeAccount(self),
        )

    def enter(self, old: str, *amr: str) -> Entered:
        self.sessions.pop(old, None)
        token = _random()
        self.sessions[token] = SignedIn(
            token=token,
            session_id="ses_1",
            account_id="usr_1",
            name=self.name,
            email=EMAIL,
            role="user",
            amr=amr,
            auth_time=self.clock.now(),
        )
        return Entered(token=token, device="device-token")

    def begin(self) -> HalfDone:
        step = _random()
        self.steps.add(step)
        return HalfDone(step=step)

    def check(self) -> None:
        if self.failing is not None:
            raise self.failing


@dataclass
class FakeSessions:
    site: Site

    async def find(self, token: str, origin: Origin) -> SignedIn | None:
        self.site.check()
        return self.site.sessions.get(token)

    async def end(self, who: SignedIn, origin: Origin) -> None:
        del self.site.sessions[who.token]

    async def places(self, who: SignedIn) -> Sequence[Place]:
        def place(number: int, kind: str, agent: str, current: bool = False) -> Place:
            return Place(
                id=f"ses_{number}",
                kind=kind,
                client="",
                user_agent=agent,
                network="203.0.113.7",
                amr=("pwd",),
                opened_at=1_790_000_000.0,
                used_at=1_790_003_000.0,
                current=current,
            )

        return [
            place(1, "web", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36", True),
            place(2, "cli", "rempart-cli/0.1"),
        ]

    async def end_place(self, who: SignedIn, place_id: str, origin: Origin) -> None:
        if place_id != "ses_2":
            raise NotFound("no_such_session", "none")

    async def end_all(self, who: SignedIn, origin: Origin) -> None:
        self.site.sessions.clear()


@dataclass
class FakeSigningIn:
    site: Site

    async def password(
        self, email: str, password: str, device: str | None, old: str, origin: Origin
    ) -> Entered | HalfDone:
        self.site.check()
        if (email, password) != (EMAIL, PASSWORD):
            raise Unauthenticated("login_failed", "the address or the password is wrong <b>")
        if self.site.totp or self.site.passkeys or self.site.demanded:
            return self.site.begin()
        return self.site.enter(old, "pwd")

    async def passkey_options(self, browser: str) -> dict[str, Any]:
        return _options()

    async def passkey(self, answer: str, browser: str, old: str, origin: Origin) -> Entered:
        if json.loads(answer).get("type") != "public-key":
            raise Unauthenticated("passkey_failed", "wrong")
        return self.site.enter(old, "hwk", "user", "mfa")

    async def step_up(self, who: SignedIn) -> HalfDone | None:
        return self.site.begin() if self.site.totp or self.site.passkeys else None

    async def choice(self, step: str) -> FactorChoice:
        self._check(step)
        return FactorChoice(code=self.site.totp, options=_options() if self.site.passkeys else None)

    async def enrolling(self, step: str) -> SignedIn:
        self._check(step)
        entered = self.site.enter("", "pwd")
        return replace(self.site.sessions.pop(entered.token), token="", session_id="")

    async def factor(self, step: str, answer: str, old: str, origin: Origin, *, passkey: bool) -> Entered:
        self._check(step)
        if not passkey and answer not in (CODE, BACKUP):
            raise Unauthenticated("factor_failed", "wrong")
        self.site.steps.discard(step)
        return self.site.enter(old, "pwd", "hwk" if passkey else "otp", "mfa")

    def _check(self, step: str) -> None:
        if step not in self.site.steps:
            raise Unauthenticated("sign_in_expired", "over")


@dataclass
class FakeInteractions:
    site: Site

    async def get(self, handle: str, who: SignedIn | None) -> Waiting:
        if handle == "no-such-handle":
            raise NotFound("no_such_interaction", "over")
        if who is None:
            return replace(self.site.client, next=Next.SIGN_IN)
        if self.site.client.acr and "mfa" not in who.amr:
            return replace(self.site.client, next=Next.STEP_UP)
        return self.site.client

    async def choose(self, handle: str, who: SignedIn) -> None:
        self.site.client = replace(self.site.client, next=Next.READY)

    async def decide(self, request: Request, handle: str, who: SignedIn, approved: bool, origin: Origin) -> Response:
        return self._answer("code=abc" if approved else "error=access_denied")

    async def refuse(self, request: Request, handle: str, origin: Origin, *, unmet: bool = False) -> Response:
        return self._answer("error=unmet_authentication_requirements" if unmet else "error=access_denied")

    def _answer(self, query: str) -> Response:
        self.site.answers.append(query)
        return RedirectResponse(f"{self.site.client.redirect_source}/callback?{query}", 303)


@dataclass
class FakeDevices:
    site: Site

    async def find(self, user_code: str, who: SignedIn | None, origin: Origin) -> DeviceWaiting:
        code = user_code.upper()
        if code == "GUES-SING":
            raise Throttled("too_many_guesses", "slow down", retry_after=60)
        if self.site.devices.get(code) != "pending":
            raise NotFound("no_such_user_code", "none")
        step = Next.CONSENT if who else Next.SIGN_IN
        return DeviceWaiting(user_code=code, client_name="Example TV", scopes=("openid", "profile"), next=step)

    async def decide(self, user_code: str, who: SignedIn, approved: bool, origin: Origin) -> None:
        await self.find(user_code, who, origin)
        self.site.devices[user_code.upper()] = "approved" if approved else "denied"


@dataclass
class FakeSignOuts:
    site: Site

    async def get(self, handle: str, who: SignedIn | None) -> SignOutAsked:
        return SignOutAsked(asks=who is not None, client_name="Example Shop", redirect_source="https://shop.example")

    async def confirm(self, request: Request, handle: str, who: SignedIn | None, origin: Origin) -> Response | None:
        if who is not None:
            del self.site.sessions[who.token]
        return RedirectResponse("https://shop.example/bye", 303)


@dataclass
class FakeLinks:
    site: Site

    async def ask(self, purpose: str, email: str, language: str, origin: Origin) -> None:
        self.site.check()
        self.site.mails.append((purpose, email))

    async def show(self, purpose: str, token: str) -> LinkShown:
        if self.site.links.get(purpose) != purpose or not token.startswith("good-"):
            raise NotFound("link_dead", "over")
        return LinkShown(email=EMAIL, name=self.site.name)

    async def redeem(self, purpose: str, token: str, password: str, origin: Origin) -> None:
        await self.show(purpose, token)
        if purpose != "factor-reset" and len(password) < 15:
            raise BadInput("weak_password", "too short")
        del self.site.links[purpose]


@dataclass
class FakeFactors:
    site: Site

    async def all(self, who: SignedIn) -> Factors:
        return Factors(totp=self.site.totp, backup_left=7, passkeys=list(self.site.passkeys))

    async def begin_totp(self, who: SignedIn) -> TotpSetup:
        secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
        return TotpSetup(secret=secret, uri=f"otpauth://totp/bank:{EMAIL}?secret={secret}", svg=QR)

    async def confirm_totp(self, who: SignedIn, code: str, origin: Origin) -> Changed:
        if code != CODE:
            raise Unauthenticated("factor_failed", "wrong")
        first, self.site.totp = not (self.site.totp or self.site.passkeys), True
        return self._changed(who, CODES if first else ())

    async def remove_totp(self, who: SignedIn, origin: Origin) -> Changed:
        if self.site.demanded:
            raise Conflict("factor_demanded", "needed")
        self.site.totp = False
        return self._changed(who)

    async def new_backup_codes(self, who: SignedIn, origin: Origin) -> Changed:
        return self._changed(who, CODES)

    async def passkey_options(self, who: SignedIn) -> dict[str, Any]:
        return {
            "challenge": _random(),
            "rp": {"id": "localhost", "name": "bank"},
            "user": {"id": _random(), "name": who.email, "displayName": who.name},
            "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-7, -257)],
            "authenticatorSelection": {"residentKey": "required", "userVerification": "preferred"},
            "excludeCredentials": [],
        }

    async def add_passkey(self, who: SignedIn, name: str, answer: str, origin: Origin) -> Changed:
        try:
            key = json.loads(answer)["id"]
        except (ValueError, KeyError):
            raise BadInput("bad_passkey", "wrong") from None
        first = not (self.site.totp or self.site.passkeys)
        self.site.passkeys.append(Passkey(id=key, name=clean_name(name), added_at=self.site.clock.now()))
        return self._changed(who, CODES if first else ())

    async def rename_passkey(self, who: SignedIn, passkey_id: str, name: str, origin: Origin) -> None:
        self.site.passkeys = [
            replace(key, name=clean_name(name)) if key.id == passkey_id else key for key in self.site.passkeys
        ]

    async def remove_passkey(self, who: SignedIn, passkey_id: str, origin: Origin) -> Changed:
        self.site.passkeys = [key for key in self.site.passkeys if key.id != passkey_id]
        return self._changed(who)

    def _changed(self, who: SignedIn, codes: Sequence[str] = ()) -> Changed:
        return Changed(entered=self.site.enter(who.token, *who.amr), backup_codes=codes)


@dataclass
class FakeAccount:
    site: Site

    async def rename(self, who: SignedIn, name: str, origin: Origin) -> None:
        self.site.name = clean_name(name)
        self.site.sessions[who.token] = replace(who, name=self.site.name)

    async def change_password(self, who: SignedIn, old: str, new: str, device: str | None, origin: Origin) -> Changed:
        if old != PASSWORD:
            raise Unauthenticated("login_failed", "wrong")
        if len(new) < 15:
            raise BadInput("weak_password", "too short")
        return Changed(entered=self.site.enter(who.token, *who.amr))

    async def activity(self, who: SignedIn) -> Sequence[Happening]:
        return [
            Happening(
                what="people.login", at=1_790_003_000.0, success=True, network="203.0.113.7", user_agent="Chrome"
            ),
            Happening(what="people.login_failed", at=1_790_002_000.0, success=False, network="198.51.100.9"),
            Happening(what="people.factor_changed", at=1_790_001_000.0, success=True, network="203.0.113.7"),
        ]

    async def applications(self, who: SignedIn) -> Sequence[Connected]:
        return list(self.site.connected)

    async def disconnect(self, who: SignedIn, client_id: str, origin: Origin) -> None:
        self.site.connected = [one for one in self.site.connected if one.client_id != client_id]

    async def export(self, who: SignedIn) -> dict[str, Any]:
        return {"account": {"id": who.account_id, "email": who.email, "name": who.name}}
