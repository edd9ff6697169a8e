"""Signing out: asked for by the person, or by a client (OpenID Connect RP-Initiated Logout 1.0 section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .ports import BrowserSessions, SignOuts
from .visit import Door, Visit

SIGN_OUT = "/auth/sign-out"
SIGNED_OUT = "/auth/signed-out"


@dataclass(frozen=True)
class SignOutPages:
    sessions: BrowserSessions
    sign_outs: SignOuts

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(SIGN_OUT, door(self.ask), methods=["GET"]),
            Route(SIGN_OUT, door(self.confirm), methods=["POST"]),
            Route(SIGNED_OUT, door(self.done), methods=["GET"]),
        ]

    async def ask(self, visit: Visit) -> Response:
        handle = visit.handle("request")
        if handle:
            asked = await self.sign_outs.get(handle, visit.who)
            if not asked.asks:
                return await self._end(visit, handle)
            return visit.show("sign_out", client_name=asked.client_name, form_targets=[asked.redirect_source])
        if visit.who is None:
            return visit.go(SIGNED_OUT)
        return visit.show("sign_out", client_name="")

    async def confirm(self, visit: Visit) -> Response:
        await visit.form()
        return await self._end(visit, visit.handle("request"))

    async def done(self, visit: Visit) -> Response:
        return visit.show("signed_out")

    async def _end(self, visit: Visit, handle: str) -> Response:
        onward = None
        if handle:
            onward = await self.sign_outs.confirm(visit.request, handle, visit.who, visit.origin)
        elif visit.who is not None:
            await self.sessions.end(visit.who, visit.origin)
        visit.exit()
        return visit.leave_to(onward) if onward is not None else visit.go(SIGNED_OUT)
