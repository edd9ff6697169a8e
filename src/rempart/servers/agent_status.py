"""What an agent says of itself to its operator: `GET /status` and `GET /entries` on `run/agent.sock`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rempart.audit.journal import Journal
from rempart.workloads.agents.knowledge import Knowledge
from rempart.workloads.agents.membership import Membership
from rempart.workloads.identities import Identities


class AgentStatus:
    def __init__(self, membership: Membership, knowledge: Knowledge, identities: Identities, journal: Journal) -> None:
        self._membership, self._knowledge = membership, knowledge
        self._identities, self._journal = identities, journal

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/status", self.status), Route("/entries", self.entries)])

    async def status(self, request: Request) -> Response:
        svid = self._membership.svid
        counters = self._identities.counters
        return JSONResponse(
            {
                "trust_domain": self._knowledge.trust_domain,
                "spiffe_id": self._membership.spiffe_id or None,
                "svid_expires_at": svid.leaf.not_after if svid else None,
                "server_away_since": self._membership.away_since,
                "refused": self._membership.refused or None,
                "entries": len(self._knowledge.entries()),
                "bundle_sequence": self._knowledge.bundle.sequence if self._knowledge.roots else None,
                "issued": {"x509": counters.x509_issued, "jwt": counters.jwt_issued},
                "shortest_remaining": self._identities.least_remaining(),
                "journal_bytes": self._journal.backlog_bytes,
            }
        )

    async def entries(self, request: Request) -> Response:
        return JSONResponse({"entries": [entry.document() for entry in self._knowledge.entries()]})
