"""The rooms that prove who one is and keep them signed in, as pages want them (`people/pages/ports.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, NotFound, Unauthenticated
from rempart.people.accounts import Accounts, Actor
from rempart.people.factors.model import Factor, OneTimeCode, PasskeyAnswer, Person, SecondFactorNeeded
from rempart.people.model import FIRST_PARTY, Account, Authenticated, Origin
from rempart.people.oauth.clients import Clients
from rempart.people.pages.model import Entered, FactorChoice, HalfDone, Place, SignedIn
from rempart.people.sessions.model import Doubted, Kind, Session
from rempart.people.sessions.service import Sessions

from .people_factors import ProvingRoom


def passkey_answer(text: str) -> Mapping[str, Any]:
    """Raises BadInput `bad_passkey`."""
    try:
        answer = strict_json.loads(text)
    except BadInput:
        answer = None
    if not isinstance(answer, dict):
        raise BadInput("bad_passkey", "this is not the answer of a passkey", "try again")
    return answer


def signed_in(account: Account, *, token: str, session_id: str, amr: tuple[str, ...], auth_time: float) -> SignedIn:
    return SignedIn(
        token=token,
        session_id=session_id,
        account_id=account.id,
        name=account.name,
        email=account.email,
        role=account.role,
        amr=amr,
        auth_time=auth_time,
    )


@dataclass(frozen=True)
class Entrance:
    """Opens sessions of browsers for who proved who they are."""

    sessions: Sessions
    proving: ProvingRoom

    async def enter(self, who: Authenticated, old: str, origin: Origin) -> Entered:
        """`old`: what the browser's cookie held before. That session goes on under a new token, or makes room."""
        found = await self.sessions.find(old, origin) if old else None
        session = found.session if isinstance(found, Doubted) else found
        if session is None or session.kind is not Kind.WEB:
            opened = await self.sessions.open(who, Kind.WEB, origin)
        else:
            opened = await self.sessions.raise_privilege(session, who, origin)
        return Entered(token=opened.token, device=self.proving.logins.remember(who.account))


@dataclass(frozen=True)
class PageSessions:
    sessions: Sessions
    accounts: Accounts
    clients: Clients

    async def find(self, token: str, origin: Origin) -> SignedIn | None:
        session = await self.sessions.find(token, origin)
        account = await self.accounts.peek(session.account_id) if isinstance(session, Session) else None
        if not isinstance(session, Session) or account is None:
            return None
        return signed_in(account, token=token, session_id=session.id, amr=session.amr, auth_time=session.auth_time)

    async def end(self, who: SignedIn, origin: Origin) -> None:
        await self.sessions.end(who.session_id, "signed out", origin)

    async def places(self, who: SignedIn) -> Sequence[Place]:
        found = [
            Place(
                id=session.id,
                kind=str(session.kind),
                client="",
                user_agent=session.user_agent,
                network=session.network,
                amr=session.amr,
                opened_at=session.created_at,
                used_at=session.seen_at,
                current=session.id == who.session_id,
                bound=session.key is not None,
            )
            for session in await self.sessions.list(who.account_id)
        ]
        for family in await self.accounts.sessions(who.account_id):
            client = await self.clients.get(family.client_id) if family.client_id != FIRST_PARTY else None
            found.append(
                Place(
                    id=family.id,
                    kind="api",
                    client=client.name if client else "",
                    user_agent=family.user_agent,
                    network=family.network,
                    amr=family.amr,
                    opened_at=family.created_at,
                    used_at=family.last_used_at,
                )
            )
        return sorted(found, key=lambda place: (not place.current, -place.used_at))

    async def end_place(self, who: SignedIn, place_id: str, origin: Origin) -> None:
        if place_id in {session.id for session in await self.sessions.list(who.account_id)}:
            await self.sessions.end(place_id, "ended by its owner", origin)
        elif place_id in {family.id for family in await self.accounts.sessions(who.account_id)}:
            await self.accounts.revoke(who.account_id, place_id, Actor(origin, who.account_id, who.role))
        else:
            raise NotFound("no_such_session", "this account has no such session", "read the list again")

    async def end_all(self, who: SignedIn, origin: Origin) -> None:
        await self.sessions.end_all(who.account_id, "signed out everywhere", origin)
        await self.accounts.revoke(who.account_id, None, Actor(origin, who.account_id, who.role))


@dataclass(frozen=True)
class PageSigningIn:
    proving: ProvingRoom
    accounts: Accounts
    entrance: Entrance

    async def password(
        self, email: str, password: str, device: str | None, old: str, origin: Origin
    ) -> Entered | HalfDone:
        found = await self.proving.logins.authenticate(email, password, None, device, origin)
        if isinstance(found, SecondFactorNeeded):
            return HalfDone(step=found.ticket)
        return await self.entrance.enter(found, old, origin)

    async def passkey_options(self, browser: str) -> dict[str, Any]:
        return await self.proving.passkeys.sign_in_options(browser)

    async def passkey(self, answer: str, browser: str, old: str, origin: Origin) -> Entered:
        proved = await self.proving.passkeys.sign_in(passkey_answer(answer), browser, origin)
        return await self.entrance.enter(proved, old, origin)

    async def step_up(self, who: SignedIn) -> HalfDone | None:
        needed = await self.proving.factors.step_up(await self.accounts.get(who.account_id), who.amr)
        return HalfDone(step=needed.ticket) if needed else None

    async def choice(self, step: str) -> FactorChoice:
        factors = await self.proving.factors.asked(step)
        options = await self.proving.factors.passkey_options(step) if Factor.PASSKEY in factors else None
        return FactorChoice(code=Factor.TOTP in factors, options=options)

    async def enrolling(self, step: str) -> SignedIn:
        person = await self.proving.factors.enrolling(step)
        amr, at = person.amr, person.auth_time
        return signed_in(person.account, token="", session_id="", amr=amr, auth_time=at)  # nosec B106 - not signed in yet

    async def factor(self, step: str, answer: str, old: str, origin: Origin, *, passkey: bool) -> Entered:
        proof = PasskeyAnswer(passkey_answer(answer)) if passkey else OneTimeCode(answer)
        proved = await self.proving.factors.prove(step, proof, origin)
        return await self.entrance.enter(proved, old, origin)


@dataclass(frozen=True)
class Persons:
    """Who a page's visitor is, as the factors' room wants them."""

    accounts: Accounts

    async def of(self, who: SignedIn) -> Person:
        account = await self.accounts.peek(who.account_id)
        if account is None:
            raise Unauthenticated("sign_in_expired", "the account is gone", "sign in again")
        return Person(account=account, session=who.session_id, amr=who.amr, auth_time=who.auth_time)
