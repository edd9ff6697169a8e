"""A person's own account: profile, where they are signed in, what happened, who was let in, and a copy of it all."""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, NotFound, RempartError

from .page import HEADERS
from .ports import BrowserSessions, OwnAccount
from .sign_out import SIGNED_OUT
from .visit import ACCOUNT, Door, Visit

SESSIONS = ACCOUNT + "/sessions"
APPLICATIONS = ACCOUNT + "/applications"
DATA = ACCOUNT + "/data"


@dataclass(frozen=True)
class AccountPages:
    account: OwnAccount
    sessions: BrowserSessions

    def routes(self, door: Door) -> list[BaseRoute]:
        return [
            Route(ACCOUNT, door(self.profile), methods=["GET"]),
            Route(ACCOUNT, door(self.rename), methods=["POST"]),
            Route(SESSIONS, door(self.places), methods=["GET"]),
            Route(SESSIONS, door(self.end), methods=["POST"]),
            Route(ACCOUNT + "/activity", door(self.activity), methods=["GET"]),
            Route(APPLICATIONS, door(self.applications), methods=["GET"]),
            Route(APPLICATIONS, door(self.disconnect), methods=["POST"]),
            Route(DATA, door(self.data), methods=["GET"]),
            Route(DATA, door(self.download), methods=["POST"]),
        ]

    async def profile(self, visit: Visit) -> Response:
        return self._profile(visit, visit.person().name)

    async def rename(self, visit: Visit) -> Response:
        who, name = visit.person(), (await visit.form()).get("name", "")
        try:
            await self.account.rename(who, name, visit.origin)
        except BadInput as error:
            return self._profile(visit, name, error)
        return visit.go(ACCOUNT + "?done=saved")

    async def places(self, visit: Visit) -> Response:
        return visit.show("account_sessions", places=await self.sessions.places(visit.person()))

    async def end(self, visit: Visit) -> Response:
        who, form = visit.person(), await visit.form()
        if form.get("place") == "all":
            await self.sessions.end_all(who, visit.origin)
            visit.exit()
            return visit.go(SIGNED_OUT)
        try:
            await self.sessions.end_place(who, form.get("place", ""), visit.origin)
        except NotFound:  # it ended meanwhile: what was asked for is so
            return visit.go(SESSIONS)
        return visit.go(SESSIONS + "?done=ended")

    async def activity(self, visit: Visit) -> Response:
        return visit.show("account_activity", happenings=await self.account.activity(visit.person()))

    async def applications(self, visit: Visit) -> Response:
        return visit.show("account_applications", connected=await self.account.applications(visit.person()))

    async def disconnect(self, visit: Visit) -> Response:
        who, form = visit.person(), await visit.form()
        await self.account.disconnect(who, visit.identifier(form.get("client_id", "")), visit.origin)
        return visit.go(APPLICATIONS + "?done=disconnected")

    async def data(self, visit: Visit) -> Response:
        visit.person(recently=True)
        return visit.show("account_data")

    async def download(self, visit: Visit) -> Response:
        who = visit.person(recently=True)
        await visit.form()
        document = json.dumps(await self.account.export(who), ensure_ascii=False, indent=2)
        headers = {**HEADERS, "content-disposition": 'attachment; filename="my-data.json"'}
        return Response(document, headers=headers, media_type="application/json")

    def _profile(self, visit: Visit, name: str, error: RempartError | None = None) -> Response:
        problems = [visit.problem(error, "name")] if error else []
        return visit.show("account", status=error.status if error else 200, problems=problems, name=name)
