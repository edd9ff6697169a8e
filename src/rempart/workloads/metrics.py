"""Identity's metrics, collected when they are asked for."""

from __future__ import annotations

from rempart.kernel.errors import RempartError
from rempart.protocols.http_pages import Ask, Handler, Page, Route, routed
from rempart.telemetry.exposition import CONTENT_TYPE, Exposition

from .grpc_server import GrpcServer
from .identities import Identities
from .issuing import IssuingAuthority
from .refusals import Refusals
from .registration import Registration
from .sds import SecretDiscovery


class IdentityMetrics:
    """No label has a value that a caller chooses."""

    def __init__(
        self,
        identities: Identities,
        registration: Registration,
        authorities: dict[str, IssuingAuthority],
        refusals: Refusals,
        server: GrpcServer,
        sds: SecretDiscovery,
    ) -> None:
        self._identities = identities
        self._registration = registration
        self._authorities = authorities
        self._refusals = refusals
        self._server = server
        self._sds = sds

    def page(self) -> str:
        """Prometheus's text format 0.0.4."""
        to, counters = Exposition(), self._identities.counters
        issued = {"x509": counters.x509_issued, "jwt": counters.jwt_issued, "web": counters.web_issued}
        samples = [({"kind": kind}, count) for kind, count in issued.items()]
        to.family("rempart_svids_issued_total", "counter", "Identities signed", samples)
        refused = self._refusals.total
        to.single("rempart_svids_refused_total", "counter", "Callers that got no identity", refused)
        to.single("rempart_sds_rejected_total", "counter", "Secrets that an Envoy rejected", self._sds.rejected)
        connections = self._server.connections
        to.single("rempart_workload_connections", "gauge", "Open workload API connections", connections)
        entries = len(self._registration.entries())
        to.single("rempart_registration_entries", "gauge", "Registration entries", entries)
        if (remaining := self._identities.least_remaining()) is not None:
            about = "Life left to the SVID in use that ends first"
            to.single("rempart_svid_remaining_seconds_min", "gauge", about, remaining)
        now, age, left = self._identities.clock.now(), [], []
        for kind, authority in self._authorities.items():
            try:
                certificate = authority.issuing().certificate
            except RempartError:
                left.append(({"kind": kind}, 0.0))
                continue
            age.append(({"kind": kind}, now - certificate.not_before))
            left.append(({"kind": kind}, certificate.not_after - now))
        to.family("rempart_issuing_authority_age_seconds", "gauge", "Age of the issuing CA", age)
        to.family("rempart_issuing_authority_remaining_seconds", "gauge", "Life left to the issuing CA", left)
        return to.text()

    def handler(self) -> Handler:
        return routed([Route("GET", "/metrics", self.show)])

    async def show(self, ask: Ask) -> Page:
        return Page(200, CONTENT_TYPE, self.page().encode())
