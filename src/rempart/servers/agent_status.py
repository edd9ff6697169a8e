"""What an agent says of itself to its operator: `GET /status` and `GET /entries` on `run/agent.sock`."""

from __future__ import annotations

from typing import Any

from rempart.audit.journal import Journal
from rempart.protocols.http_pages import Ask, Page, json_page, no_page
from rempart.workloads.agents.knowledge import Knowledge
from rempart.workloads.agents.membership import Membership
from rempart.workloads.identities import Identities


class AgentStatus:
    def __init__(self, membership: Membership, knowledge: Knowledge, identities: Identities, journal: Journal) -> None:
        self._membership, self._knowledge = membership, knowledge
        self._identities, self._journal = identities, journal

    async def page(self, ask: Ask) -> Page:
        match ask.method, ask.path:
            case "GET", "/status":
                return json_page(self._status())
            case "GET", "/entries":
                return json_page({"entries": [entry.document() for entry in self._knowledge.entries()]})
        raise no_page(ask)

    def _status(self) -> dict[str, Any]:
        svid = self._membership.svid
        counters = self._identities.counters
        return {
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
