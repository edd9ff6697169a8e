"""The end-session endpoint (OpenID Connect RP-Initiated Logout section 2)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, RempartError

from ..requests import Origins
from ..sessions.cookies import clear_session
from .answers import error_page, raw_parameters, redirect, respond
from .arrivals import Arrivals
from .logout import Logouts
from .model import Outgoing
from .parameters import parse
from .ports import Sessions


class LogoutFace:
    def __init__(
        self, logouts: Logouts, sessions: Sessions, arrivals: Arrivals, origins: Origins, *, issuer: str
    ) -> None:
        self._logouts, self._sessions, self._arrivals = logouts, sessions, arrivals
        self._origins, self._issuer = origins, issuer

    def routes(self) -> list[BaseRoute]:
        return [Route("/auth/logout", self.logout, methods=["GET", "POST"])]

    def metadata(self) -> dict[str, object]:
        return {
            "end_session_endpoint": f"{self._issuer}/logout",
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }

    async def logout(self, request: Request) -> Response:
        try:
            if request.method == "HEAD":
                raise BadInput("invalid_request", "this endpoint takes GET and POST")
            origin = self._origins.of(request)
            given, twice = parse(await raw_parameters(request))
            if twice:
                raise BadInput("invalid_request", "a parameter is given twice")
            asked = await self._logouts.read(given)
            outcome: Outgoing | str | None
            session = await self._sessions.current(request, origin)
            if session is None and request.method == "POST" and not asked.session_id:
                # A form on another site sends no cookie of ours (SameSite=Lax): the page, by GET, gets it.
                self._arrivals.admit(origin)
                outcome = await self._logouts.wait(asked)
            else:
                outcome = await self._logouts.begin(asked, session, origin)
        except RempartError as error:
            return error_page(request, error)
        if isinstance(outcome, str):
            return redirect(f"{self._issuer}/sign-out", {"request": outcome})
        if outcome is None:
            response = redirect(f"{self._issuer}/signed-out", {})
        else:
            response = respond(request, outcome, script="")
        clear_session(response)
        return response
