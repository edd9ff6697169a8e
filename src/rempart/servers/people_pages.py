"""How pages are put together: each Protocol of `people/pages/ports.py` fitted to the room that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from rempart.backends import sql_activity
from rempart.backends.sql import Database
from rempart.backends.sql_activity import SqlActivity
from rempart.kernel.clock import Clock
from rempart.kernel.errors import NotFound
from rempart.kernel.event import Recorder
from rempart.people.accounts import Accounts, Actor
from rempart.people.administration.links import LinkKind
from rempart.people.administration.links import Links as MailedLinks
from rempart.people.administration.own_data import OwnData
from rempart.people.authorize.answers import respond
from rempart.people.authorize.model import Interaction, Outgoing
from rempart.people.authorize.ports import SignedIn as Session
from rempart.people.factors.model import Changed as ChangedFactors
from rempart.people.model import Origin
from rempart.people.oauth.clients import Clients
from rempart.people.pages.activity import Activity
from rempart.people.pages.faces import Rooms, page_routes
from rempart.people.pages.model import (
    Changed,
    Connected,
    DeviceWaiting,
    Factors,
    Happening,
    LinkShown,
    Next,
    Passkey,
    SignedIn,
    SignOutAsked,
    TotpSetup,
    Waiting,
)
from rempart.people.password_rules import DEFAULT_LENGTH
from rempart.people.requests import Origins
from rempart.people.sessions.service import Sessions

from .people_administration import Administration
from .people_authorize import Authorization
from .people_factors import OwnRoom, ProvingRoom
from .people_pages_entry import Entrance, PageSessions, PageSigningIn, Persons, passkey_answer

SCHEMA = sql_activity.SCHEMA
_KINDS = {"reset": LinkKind.RESET, "invitation": LinkKind.INVITE, "factor-reset": LinkKind.FACTOR_RESET}


def remember_activity(recorder: Recorder, database: Database) -> Activity:
    """To be given to every room in place of the recorder; `flush` it every few seconds."""
    return Activity(recorder, SqlActivity(database))


@dataclass(frozen=True)
class _AsSession:
    """A page's visitor as the authorization room wants sessions."""

    id: str
    account_id: str
    amr: tuple[str, ...]
    auth_time: float


def _session(who: SignedIn | None) -> Session | None:
    return _sure(who) if who else None


def _sure(who: SignedIn) -> Session:
    return _AsSession(who.session_id, who.account_id, who.amr, who.auth_time)


@dataclass(frozen=True)
class PageInteractions:
    authorization: Authorization
    issuer: str

    async def get(self, handle: str, who: SignedIn | None) -> Waiting:
        return _waiting(await self.authorization.interactions.get(handle, _session(who)))

    async def choose(self, handle: str, who: SignedIn) -> None:
        await self.authorization.interactions.choose(handle, _sure(who))

    async def decide(self, request: Request, handle: str, who: SignedIn, approved: bool, origin: Origin) -> Response:
        interactions = self.authorization.interactions
        found = await interactions.get(handle, _sure(who))
        granted = None if Next(found.step) is not Next.CONSENT else (found.scopes if approved else ())
        return self._respond(request, await interactions.decide(handle, _sure(who), granted, origin))

    async def refuse(self, request: Request, handle: str, origin: Origin, *, unmet: bool = False) -> Response:
        error = "unmet_authentication_requirements" if unmet else "access_denied"
        return self._respond(request, await self.authorization.interactions.deny(handle, origin, error))

    def _respond(self, request: Request, outgoing: Outgoing) -> Response:
        return respond(request, outgoing, script=f"{self.issuer}/form-post.js")


def _waiting(found: Interaction) -> Waiting:
    return Waiting(
        client_name=found.client_name,
        scopes=found.scopes,
        next=Next(found.step),
        acr=found.acr,
        redirect_host=found.redirect_host,
        redirect_source=found.redirect_source,
        login_hint=found.login_hint,
        locale=found.locale,
    )


@dataclass(frozen=True)
class PageDevices:
    authorization: Authorization

    async def find(self, user_code: str, who: SignedIn | None, origin: Origin) -> DeviceWaiting:
        found = await self.authorization.devices.find(user_code, _session(who), origin)
        return DeviceWaiting(
            user_code=found.user_code,
            client_name=found.client_name,
            scopes=found.scopes,
            next=Next(found.step),
            acr=found.acr,
        )

    async def decide(self, user_code: str, who: SignedIn, approved: bool, origin: Origin) -> None:
        flow = self.authorization.devices
        await (flow.approve if approved else flow.deny)(user_code, _sure(who), origin)


@dataclass(frozen=True)
class PageSignOuts:
    authorization: Authorization

    async def get(self, handle: str, who: SignedIn | None) -> SignOutAsked:
        found = await self.authorization.logouts.get(handle, _session(who))
        return SignOutAsked(asks=found.asks, client_name=found.client_name, redirect_source=found.redirect_source)

    async def confirm(self, request: Request, handle: str, who: SignedIn | None, origin: Origin) -> Response | None:
        outgoing = await self.authorization.logouts.confirm(handle, _session(who), origin)
        return respond(request, outgoing, script="") if outgoing else None


@dataclass(frozen=True)
class PageLinks:
    links: MailedLinks
    own: OwnRoom

    async def ask(self, purpose: str, email: str, language: str, origin: Origin) -> None:
        self.links.request(email, _KINDS[purpose], origin, language=language)

    async def show(self, purpose: str, token: str) -> LinkShown:
        found = await self.links.look(token)
        if found.kind is not _KINDS[purpose]:
            raise NotFound("link_dead", "this is a link for something else", "ask again")
        return LinkShown(email=found.account.email, name=found.account.name)

    async def redeem(self, purpose: str, token: str, password: str, origin: Origin) -> None:
        await self.show(purpose, token)
        if purpose != "factor-reset":
            await self.links.choose_password(token, password, origin)
            return
        account = await self.links.redeem(token, LinkKind.FACTOR_RESET)
        await self.own.reset.reset(account, origin, actor=account.id, role=account.role)


@dataclass(frozen=True)
class PageFactors:
    own: OwnRoom
    persons: Persons
    entrance: Entrance

    async def all(self, who: SignedIn) -> Factors:
        found = await self.own.factors.list(await self.persons.of(who))
        keys = [
            Passkey(id=key.id, name=key.name, added_at=key.created_at, used_at=key.last_used_at)
            for key in found.passkeys
        ]
        return Factors(totp=found.totp, backup_left=found.backup_codes, passkeys=keys)

    async def begin_totp(self, who: SignedIn) -> TotpSetup:
        setup = await self.own.factors.begin_totp(await self.persons.of(who))
        return TotpSetup(secret=setup.secret, uri=setup.uri, svg=setup.svg)

    async def confirm_totp(self, who: SignedIn, code: str, origin: Origin) -> Changed:
        person = await self.persons.of(who)
        return await self._go_on(await self.own.factors.confirm_totp(person, code, origin), origin)

    async def remove_totp(self, who: SignedIn, origin: Origin) -> Changed:
        return await self._go_on(await self.own.factors.remove_totp(await self.persons.of(who), origin), origin)

    async def new_backup_codes(self, who: SignedIn, origin: Origin) -> Changed:
        return await self._go_on(await self.own.factors.new_backup_codes(await self.persons.of(who), origin), origin)

    async def passkey_options(self, who: SignedIn) -> dict[str, Any]:
        return await self.own.factors.passkey_options(await self.persons.of(who))

    async def add_passkey(self, who: SignedIn, name: str, answer: str, origin: Origin) -> Changed:
        person, given = await self.persons.of(who), passkey_answer(answer)
        return await self._go_on(await self.own.factors.add_passkey(person, given, name, origin), origin)

    async def rename_passkey(self, who: SignedIn, passkey_id: str, name: str, origin: Origin) -> None:
        await self.own.factors.rename_passkey(await self.persons.of(who), passkey_id, name, origin)

    async def remove_passkey(self, who: SignedIn, passkey_id: str, origin: Origin) -> Changed:
        person = await self.persons.of(who)
        return await self._go_on(await self.own.factors.remove_passkey(person, passkey_id, origin), origin)

    async def _go_on(self, changed: ChangedFactors, origin: Origin) -> Changed:
        """Everything that was signed in has ended: this browser gets a new session."""
        entered = await self.entrance.enter(changed.authenticated, "", origin)
        return Changed(entered=entered, backup_codes=changed.backup_codes)


@dataclass(frozen=True)
class PageAccount:
    accounts: Accounts
    authorization: Authorization
    own: OwnRoom
    persons: Persons
    entrance: Entrance
    page_sessions: PageSessions
    events: Activity
    own_data: OwnData

    async def rename(self, who: SignedIn, name: str, origin: Origin) -> None:
        await self.accounts.change(who.account_id, {"name": name}, Actor(origin, who.account_id, who.role))

    async def change_password(self, who: SignedIn, old: str, new: str, device: str | None, origin: Origin) -> Changed:
        changed = await self.own.password.change(await self.persons.of(who), old, new, device, origin)
        return Changed(entered=await self.entrance.enter(changed.authenticated, "", origin))

    async def activity(self, who: SignedIn) -> Sequence[Happening]:
        return await self.events.of_account(who.account_id)

    async def applications(self, who: SignedIn) -> Sequence[Connected]:
        return [
            Connected(
                client_id=consent.client_id,
                client_name=consent.client_name,
                scopes=consent.scopes,
                since=consent.granted_at,
            )
            for consent in await self.authorization.consents.of_account(who.account_id)
        ]

    async def disconnect(self, who: SignedIn, client_id: str, origin: Origin) -> None:
        await self.authorization.consents.revoke(who.account_id, client_id, origin)

    async def export(self, who: SignedIn) -> dict[str, Any]:
        person = await self.persons.of(who)
        factors = await self.own.factors.list(person)
        return {
            **await self.own_data.of(person.account),
            "factors": {
                "authenticator_app": factors.totp,
                "passkeys": [key.public() for key in factors.passkeys],
                "backup_codes_left": factors.backup_codes,
            },
            "signed_in": [_plain(place) for place in await self.page_sessions.places(who)],
            "applications": [_plain(one) for one in await self.applications(who)],
            "activity": [_plain(line) for line in await self.activity(who)],
        }


def _plain(value: object) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)  # type: ignore[call-overload,no-any-return]  # only frozen dataclasses come here


def compose_pages(
    issuer: str,
    brand: str,
    secret: Callable[[str], bytes],
    accounts: Accounts,
    sessions: Sessions,
    proving: ProvingRoom,
    own: OwnRoom,
    authorization: Authorization,
    administration: Administration,
    clients: Clients,
    events: Activity,
    origins: Origins,
    clock: Clock,
    least_length: int = DEFAULT_LENGTH,
) -> list[BaseRoute]:
    """`secret(purpose)` gives a key of 32 bytes; `brand` is the name that people know us by."""
    entrance, persons = Entrance(sessions, proving), Persons(accounts)
    page_sessions = PageSessions(sessions, accounts, clients)
    own_data = administration.own_data
    rooms = Rooms(
        sessions=page_sessions,
        signing_in=PageSigningIn(proving, accounts, entrance),
        interactions=PageInteractions(authorization, issuer),
        devices=PageDevices(authorization),
        sign_outs=PageSignOuts(authorization),
        links=PageLinks(administration.links, own),
        factors=PageFactors(own, persons, entrance),
        account=PageAccount(accounts, authorization, own, persons, entrance, page_sessions, events, own_data),
    )
    return page_routes(
        rooms, origins, clock, issuer=issuer, brand=brand, key=secret("forms"), least_length=least_length
    )
