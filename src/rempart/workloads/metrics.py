"""Identity's metrics, collected when they are asked for, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rempart.kernel.errors import RempartError

from .grpc_server import GrpcServer
from .identities import Identities
from .issuing import IssuingAuthority
from .refusals import Refusals
from .registration import Registration
from .sds import SecretDiscovery


class IdentityMetrics:
    """A prometheus_client collector. No label has a value that a caller chooses."""

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

    def collect(self) -> Iterator[Metric]:
        counters = self._identities.counters
        issued = CounterMetricFamily("rempart_svids_issued", "Identities signed", labels=["kind"])
        issued.add_metric(["x509"], counters.x509_issued)
        issued.add_metric(["jwt"], counters.jwt_issued)
        issued.add_metric(["web"], counters.web_issued)
        yield issued
        yield CounterMetricFamily("rempart_svids_refused", "Callers that got no identity", value=self._refusals.total)
        yield CounterMetricFamily("rempart_sds_rejected", "Secrets that an Envoy rejected", value=self._sds.rejected)
        yield GaugeMetricFamily(
            "rempart_workload_connections",
            "Open workload API connections",
            value=self._server.connections,
        )
        yield GaugeMetricFamily(
            "rempart_registration_entries", "Registration entries", value=len(self._registration.entries())
        )
        remaining = self._identities.least_remaining()
        if remaining is not None:
            yield GaugeMetricFamily(
                "rempart_svid_remaining_seconds_min", "Life left to the SVID in use that ends first", value=remaining
            )
        now = self._identities.clock.now()
        age = GaugeMetricFamily("rempart_issuing_authority_age_seconds", "Age of the issuing CA", labels=["kind"])
        left = GaugeMetricFamily(
            "rempart_issuing_authority_remaining_seconds", "Life left to the issuing CA", labels=["kind"]
        )
        for kind, authority in self._authorities.items():
            try:
                certificate = authority.issuing().certificate
            except RempartError:
                left.add_metric([kind], 0)
                continue
            age.add_metric([kind], now - certificate.not_before)
            left.add_metric([kind], certificate.not_after - now)
        yield age
        yield left

    def app(self) -> Starlette:
        """`GET /metrics` in the Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(self)

        async def show(request: Request) -> Response:
            return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

        return Starlette(routes=[Route("/metrics", show)])
