"""What every agent is made of, whether it runs alone (`workload_agent`) or among a host's services (`host_agent`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rempart.audit.journal import Journal
from rempart.backends.agent_https import HttpsServer
from rempart.kernel.clock import Clock
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.agents.evidence import Evidence
from rempart.workloads.agents.knowledge import Knowledge
from rempart.workloads.agents.membership import Membership
from rempart.workloads.agents.model import SERVER
from rempart.workloads.agents.remote import RemoteJwt, RemoteX509
from rempart.workloads.attestation import Attestor
from rempart.workloads.changes import Changes
from rempart.workloads.identities import Identities
from rempart.workloads.refusals import Refusals

from .agent_events import alarm_in

MAX_BACKLOG = 128 << 20
"""Bytes of events that wait for the server; then nothing more is given, for it could not be recorded."""


@dataclass(frozen=True, slots=True)
class AgentParts:
    server: HttpsServer
    knowledge: Knowledge
    membership: Membership
    changes: Changes
    journal: Journal
    clock: Clock

    def identities(self, attestor: Attestor, refusals: Refusals) -> Identities:
        return Identities(
            trust_domain=self.knowledge.trust_domain,
            gateway=None,
            web_names=(),
            svid_ttl=0.0,
            attestor=attestor,
            registration=self.knowledge,
            spiffe=RemoteX509(self.server, self.knowledge, self.clock),
            web=None,
            jwt=RemoteJwt(self.server, self.knowledge, self.clock),
            recorder=self.journal,
            refusals=refusals,
            changes=self.changes,
            clock=self.clock,
            federation=self.knowledge,
        )


def agent_parts(
    trust_domain: str,
    servers: Sequence[tuple[str, int]],
    evidence: Evidence,
    *,
    kept: Path,
    seal_key: bytes,
    journal: Journal,
    clock: Clock,
) -> AgentParts:
    """`kept` holds the agent's key and what it knows, sealed. The caller closes `server`."""
    changes = Changes()
    server = HttpsServer(servers, str(SpiffeId(trust_domain, SERVER)))

    knowledge = Knowledge(trust_domain, clock, changes.announce)
    membership = Membership(
        server, knowledge, evidence, path=kept, seal_key=seal_key, clock=clock, alarm=alarm_in(journal, clock)
    )
    return AgentParts(server, knowledge, membership, changes, journal, clock)
