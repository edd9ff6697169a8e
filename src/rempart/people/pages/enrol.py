"""Setting up a first factor before one gets in: for people whose role or password demands one and who have none yet."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, Conflict, RempartError, Throttled, Unauthenticated

from .model import Changed, SignedIn
from .options import as_attribute, as_picture, in_groups
from .ports import OwnFactors, SigningIn
from .sign_in import SET_UP, go_on
from .visit import Door, Visit

_REFUSALS = (BadInput, Conflict, Throttled, Unauthenticated)


@dataclass(frozen=True)
class EnrolPages:
    signing_in: SigningIn
    factors: OwnFactors

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(SET_UP, door(self.choose), methods=["GET"]),
            Route(SET_UP + "/authenticator", door(self.show_totp), methods=["GET"]),
            Route(SET_UP + "/authenticator", door(self.confirm_totp), methods=["POST"]),
            Route(SET_UP + "/passkey", door(self.show_passkey), methods=["GET"]),
            Route(SET_UP + "/passkey", door(self.add_passkey), methods=["POST"]),
        ]

    async def choose(self, visit: Visit) -> Response:
        if await self._whose(visit) is None:
            return self._begin_again(visit)
        totp, passkey = go_on(visit, SET_UP + "/authenticator"), go_on(visit, SET_UP + "/passkey")
        return visit.show("enrol", totp=totp, passkey_page=passkey)

    async def show_totp(self, visit: Visit) -> Response:
        who = await self._whose(visit)
        return self._begin_again(visit) if who is None else await self._totp(visit, who)

    async def confirm_totp(self, visit: Visit) -> Response:
        form = await visit.form()
        who = await self._whose(visit)
        if who is None:
            return self._begin_again(visit)
        try:
            changed = await self.factors.confirm_totp(who, form.get("code", ""), visit.origin)
        except _REFUSALS as error:
            return await self._totp(visit, who, error)
        return self._done(visit, changed)

    async def show_passkey(self, visit: Visit) -> Response:
        who = await self._whose(visit)
        return self._begin_again(visit) if who is None else await self._passkey(visit, who)

    async def add_passkey(self, visit: Visit) -> Response:
        form = await visit.form()
        who = await self._whose(visit)
        if who is None:
            return self._begin_again(visit)
        name = form.get("name", "").strip() or visit.texts.plain("passkey.unnamed")
        try:
            changed = await self.factors.add_passkey(who, name, form.get("passkey", ""), visit.origin)
        except _REFUSALS as error:
            return await self._passkey(visit, who, error, name)
        return self._done(visit, changed)

    async def _whose(self, visit: Visit) -> SignedIn | None:
        try:
            return await self.signing_in.enrolling(visit.step)
        except Unauthenticated:
            return None

    async def _totp(self, visit: Visit, who: SignedIn, error: RempartError | None = None) -> Response:
        setup = await self.factors.begin_totp(who)
        return visit.show(
            "enrol_totp",
            status=error.status if error else 200,
            problems=[visit.problem(error, "code")] if error else [],
            setup=setup,
            qr=as_picture(setup.svg),
            secret=in_groups(setup.secret),
            back=go_on(visit, SET_UP),
        )

    async def _passkey(
        self, visit: Visit, who: SignedIn, error: RempartError | None = None, name: str = ""
    ) -> Response:
        return visit.show(
            "enrol_passkey",
            status=error.status if error else 200,
            problems=[visit.problem(error, "name")] if error else [],
            name=name,
            options=as_attribute(await self.factors.passkey_options(who)),
            back=go_on(visit, SET_UP),
        )

    def _done(self, visit: Visit, changed: Changed) -> Response:
        visit.enter(changed.entered)
        onward = go_on(visit) if visit.handle("interaction") else visit.next()
        return visit.show("backup_codes_then", codes=changed.backup_codes, onward=onward)

    def _begin_again(self, visit: Visit) -> Response:
        return visit.go(f"{go_on(visit)}&again=1&notice=expired")
