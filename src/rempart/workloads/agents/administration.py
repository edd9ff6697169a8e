"""The operator's face of the agents, on identity's admin socket.

`GET /agents` · `POST /agents/tokens` (`{"ttl": seconds, "name": NAME}`) · `GET|DELETE /agents/{name}` (delete: evict) ·
`POST /agents/{ban|unban}/{name}`; a name is a SPIFFE ID, or what follows `/rempart/agent/` in it.
"""

from __future__ import annotations

import re

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput
from rempart.protocols.http_pages import Ask, Page, Route, json_page
from rempart.workloads.registration import Registration

from .roster import TOKEN_TTL, Roster, document

_NAME = re.compile(r"[A-Za-z0-9._-]{0,128}")


class AgentAdministration:
    def __init__(self, roster: Roster, registration: Registration, operator: str) -> None:
        self._roster, self._registration, self._operator = roster, registration, operator

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/agents", self.list_agents),
            Route("POST", "/agents/tokens", self.make_token),
            Route("POST", "/agents/ban/{*}", self.ban),
            Route("POST", "/agents/unban/{*}", self.unban),
            Route("GET", "/agents/{*}", self.show),
            Route("DELETE", "/agents/{*}", self.evict),
        ]

    async def list_agents(self, ask: Ask) -> Page:
        return json_page({"agents": [document(agent) for agent in await self._roster.agents()]})

    async def make_token(self, ask: Ask) -> Page:
        asked = strict_json.loads(await ask.body(1000) or b"{}")
        ttl, name = (asked.get("ttl", TOKEN_TTL), asked.get("name", "")) if isinstance(asked, dict) else (None, None)
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise BadInput("bad_ttl", "a join token's time to live is a number of seconds")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadInput("bad_agent_name", "an agent's name has letters, digits, dots, dashes and underscores")
        token, kept = await self._roster.make_token(self._operator, ttl=float(ttl), name=name)
        return json_page({"token": token, "spiffe_id": kept.spiffe_id, "expires_at": kept.expires_at})

    async def show(self, ask: Ask, name: str) -> Page:
        agent = await self._roster.show(name)
        entries = self._registration.of_agent(agent.spiffe_id, agent.facts)
        return json_page({**document(agent), "entries": [entry.document() for entry in entries]})

    async def ban(self, ask: Ask, name: str) -> Page:
        return json_page(document(await self._roster.ban(name, self._operator)))

    async def unban(self, ask: Ask, name: str) -> Page:
        agent = await self._roster.ban(name, self._operator, banned=False)
        return json_page(document(agent))

    async def evict(self, ask: Ask, name: str) -> Page:
        return json_page({"evicted": await self._roster.evict(name, self._operator)})
