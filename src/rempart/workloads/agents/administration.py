"""The operator's face of the agents, on identity's admin socket.

`GET /agents` · `POST /agents/tokens` (`{"ttl": seconds, "name": NAME}`) · `GET|DELETE /agents/{name}` (delete: evict) ·
`POST /agents/{ban|unban}/{name}`; a name is a SPIFFE ID, or what follows `/rempart/agent/` in it.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput
from rempart.workloads.registration import Registration

from .roster import TOKEN_TTL, Roster, document

_NAME = re.compile(r"[A-Za-z0-9._-]{0,128}")


class AgentAdministration:
    def __init__(self, roster: Roster, registration: Registration, operator: str) -> None:
        self._roster, self._registration, self._operator = roster, registration, operator

    def routes(self) -> list[Route]:
        return [
            Route("/agents", self.list_agents, methods=["GET"]),
            Route("/agents/tokens", self.make_token, methods=["POST"]),
            Route("/agents/ban/{name:path}", self.ban, methods=["POST"]),
            Route("/agents/unban/{name:path}", self.unban, methods=["POST"]),
            Route("/agents/{name:path}", self.show, methods=["GET"]),
            Route("/agents/{name:path}", self.evict, methods=["DELETE"]),
        ]

    async def list_agents(self, request: Request) -> Response:
        return JSONResponse({"agents": [document(agent) for agent in await self._roster.agents()]})

    async def make_token(self, request: Request) -> Response:
        asked = strict_json.loads((await request.body())[:1000] or b"{}")
        ttl, name = (asked.get("ttl", TOKEN_TTL), asked.get("name", "")) if isinstance(asked, dict) else (None, None)
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise BadInput("bad_ttl", "a join token's time to live is a number of seconds")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput("bad_agent_name", "an agent's name has letters, digits, dots, dashes and underscores")
        token, kept = await self._roster.make_token(self._operator, ttl=float(ttl), name=name)
        return JSONResponse({"token": token, "spiffe_id": kept.spiffe_id, "expires_at": kept.expires_at})

    async def show(self, request: Request) -> Response:
        agent = await self._roster.show(request.path_params["name"])
        entries = self._registration.of_agent(agent.spiffe_id, agent.facts)
        return JSONResponse({**document(agent), "entries": [entry.document() for entry in entries]})

    async def ban(self, request: Request) -> Response:
        return JSONResponse(document(await self._roster.ban(request.path_params["name"], self._operator)))

    async def unban(self, request: Request) -> Response:
        agent = await self._roster.ban(request.path_params["name"], self._operator, banned=False)
        return JSONResponse(document(agent))

    async def evict(self, request: Request) -> Response:
        return JSONResponse({"evicted": await self._roster.evict(request.path_params["name"], self._operator)})
