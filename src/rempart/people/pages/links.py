"""The way back in by mail: asking for a link, and using one. Looking at a link uses nothing up: mail scanners do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled

from .ports import Links
from .visit import SIGN_IN, Door, Problem, Visit

_ASK = {"/auth/forgot": "reset", "/auth/lost-factor": "factor-reset"}
_USE = {"/auth/reset": "reset", "/auth/invitation": "invitation", "/auth/factor-reset": "factor-reset"}


@dataclass(frozen=True)
class LinkPages:
    links: Links

    def routes(self, door: Door) -> list[BaseRoute]:
        routes: list[BaseRoute] = [Route("/auth/forgot/sent", door(self.sent), methods=["GET"])]
        for path, purpose in _ASK.items():
            routes.append(Route(path, door(_for(self.ask, purpose)), methods=["GET"]))
        routes.append(Route("/auth/forgot", door(_for(self.send, "reset")), methods=["POST"]))
        for path, purpose in _USE.items():
            routes += [
                Route(path, door(_for(self.show, purpose)), methods=["GET"]),
                Route(path, door(_for(self.redeem, purpose)), methods=["POST"]),
            ]
        return routes

    async def ask(self, visit: Visit, purpose: str) -> Response:
        return visit.show("forgot", purpose=purpose, email="")

    async def send(self, visit: Visit, purpose: str) -> Response:
        email = (await visit.form()).get("email", "")
        try:
            await self.links.ask(purpose, email, visit.texts.language, visit.origin)
        except (BadInput, Throttled) as error:
            problems = [visit.problem(error, "email")]
            return visit.show("forgot", status=error.status, problems=problems, purpose=purpose, email=email)
        return visit.go("/auth/forgot/sent")

    async def sent(self, visit: Visit) -> Response:
        return visit.show("sent")

    async def show(self, visit: Visit, purpose: str) -> Response:
        return await self._show(visit, purpose)

    async def redeem(self, visit: Visit, purpose: str) -> Response:
        form = await visit.form()
        password = form.get("password", "")
        if purpose != "factor-reset" and password != form.get("repeated", ""):
            text = visit.texts.plain("error.passwords_differ")
            return await self._show(visit, purpose, [Problem("repeated", text)], 400)
        try:
            await self.links.redeem(purpose, visit.handle("token"), password, visit.origin)
        except NotFound as error:
            return self._dead(visit, error)
        except (BadInput, Throttled) as error:
            return await self._show(visit, purpose, [visit.problem(error, "password")], error.status)
        return visit.go(f"{SIGN_IN}?notice={purpose}")

    async def _show(self, visit: Visit, purpose: str, problems: Sequence[Problem] = (), status: int = 200) -> Response:
        try:
            link = await self.links.show(purpose, visit.handle("token"))
        except NotFound as error:
            return self._dead(visit, error)
        return visit.show("link", status=status, problems=problems, purpose=purpose, link=link)

    def _dead(self, visit: Visit, error: RempartError) -> Response:
        return visit.show("link_dead", status=error.status)


def _for(handler: Callable[[Visit, str], Awaitable[Response]], purpose: str) -> Callable[[Visit], Awaitable[Response]]:
    async def handle(visit: Visit) -> Response:
        return await handler(visit, purpose)

    return handle
