"""The part of the plan that configures Envoys: who may call whom, over which ports and sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rempart.mesh.model import (
    Address,
    Egress,
    GatewaySettings,
    Ingress,
    Limits,
    Route,
    Sds,
    SidecarSettings,
    Tokens,
    Tracing,
    Upstream,
    mesh_controls,
)

if TYPE_CHECKING:
    from .settings import Rates


_SHORTEST = 5.0
"""Seconds of a connection: where SVIDs live for seconds, a handshake for every few requests would be too many."""


@dataclass(frozen=True, slots=True)
class Member:
    """A service or client in the mesh. `mtls_port` is 0 for a client; `tcp` says that its program insists on TCP.
    With several `instances` the further ones listen beside `address`, as app-2.sock and so on."""

    name: str
    spiffe_id: str
    routes: tuple[str, ...]
    calls: tuple[str, ...]
    address: str
    mtls_port: int = 0
    tcp: bool = False
    egress_ports: dict[str, int] = field(default_factory=dict)
    instances: int = 1
    foreign: tuple[str, ...] = ()
    """SPIFFE IDs of other trust domains that may call it."""
    host: str = ""
    listens: str = "127.0.0.1"
    reached: str = "127.0.0.1"
    """The address at which its sidecar is reached from this host."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A service of another trust domain that members may call."""

    name: str
    spiffe_id: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    state: Path
    trust_domain: str
    issuer: str
    listen: tuple[str, int]
    gateway_id: str
    members: tuple[Member, ...]
    remotes: tuple[Remote, ...] = ()
    unsafe_disabled: tuple[str, ...] = ()
    mtls_listen: tuple[str, int] | None = None
    workload_api: str = ""  # where another system gives identities; empty: on our own socket
    rates: Rates
    svid_ttl: float = 3600.0
    tracing: Tracing | None = None

    @property
    def connection_s(self) -> float:
        """A connection outlives the SVIDs it was made with by no more than a quarter of their life: Envoy looks at them
        in the handshake only, and who gets no new one, on a banned host, must not go on where it was connected."""
        return min(Limits().max_connection_s, max(self.svid_ttl / 4, _SHORTEST))

    @property
    def endpoint(self) -> str:
        """Where programs find the Workload API (SPIFFE_ENDPOINT_SOCKET)."""
        return f"unix://{self.workload_api or self.state / 'run' / 'workload.sock'}"

    def names(self) -> tuple[str, ...]:
        return ("gateway", *(member.name for member in self.members))

    def command(self, name: str) -> tuple[str, ...]:
        from rempart.mesh.binary import envoy_command

        return tuple(envoy_command(self.state / "envoy" / f"{name}.json"))

    def gateway(self) -> dict[str, Any]:
        from rempart.mesh.config import envoy_config

        host, port = self.listen
        reached = [member for member in self.members if member.routes and member.mtls_port]
        return envoy_config(
            GatewaySettings(
                spiffe_id=self.gateway_id,
                run_dir=self._run_dir("gateway"),
                listen=Address(host=host, port=port),
                mtls_listen=Address(host=self.mtls_listen[0], port=self.mtls_listen[1]) if self.mtls_listen else None,
                certificates=self._certificates(),
                pdp_socket=self._pep("gateway"),
                tokens=self._tokens(),
                upstreams=tuple(self._upstream(member) for member in reached),
                routes=tuple(Route(route, member.name) for member in reached for route in member.routes),
                limits=Limits(
                    ip_requests_per_s=self.rates.address_per_second,
                    ip_burst=self.rates.address_burst,
                    max_connection_s=self.connection_s,
                ),
                tracing=self.tracing,
                unsafe_disabled=mesh_controls(self.unsafe_disabled),
            )
        )

    def sidecar(self, member: Member) -> dict[str, Any]:
        from rempart.mesh.config import envoy_config

        ingress = None
        if member.mtls_port:
            ingress = Ingress(
                listen=Address(host=member.listens, port=member.mtls_port),
                application=Address.parse(member.address),
                more=tuple(
                    Address.parse(member.address.replace("app.sock", f"app-{number}.sock"))
                    for number in range(2, member.instances + 1)
                ),
                callers=self._callers(member),
                pdp_socket=self._pep(member.name),
                tokens=self._tokens(),
            )
        return envoy_config(
            SidecarSettings(
                name=member.name,
                spiffe_id=member.spiffe_id,
                run_dir=self._run_dir(member.name),
                certificates=self._certificates(),
                ingress=ingress,
                egress=tuple(self._egress(member, callee) for callee in member.calls),
                limits=Limits(max_connection_s=self.connection_s),
                tracing=self.tracing,
                unsafe_disabled=mesh_controls(self.unsafe_disabled),
            )
        )

    def _callers(self, member: Member) -> tuple[str, ...]:
        """Whom a sidecar lets in at all: those that declare it in `calls`, the workloads of partners that it names, and
        the gateway when it has routes.

        Every sidecar with an ingress fetches people's JWKS. A service that nobody may call lets the gateway in, whose
        requests the PDP then refuses: an empty list would let anybody in.
        """
        callers = [other.spiffe_id for other in self.members if member.name in other.calls]
        if member.name == "people":
            callers += [other.spiffe_id for other in self.members if other.mtls_port]
        if member.routes or not callers:
            callers.insert(0, self.gateway_id)
        if member.name == "people" and self.gateway_id not in callers:
            callers.insert(0, self.gateway_id)
        return tuple(dict.fromkeys((*callers, *member.foreign)))

    def _run_dir(self, name: str) -> str:
        return str(self.state / "run" / "envoy" / name)

    def _pep(self, name: str) -> str:
        return str(self.state / "run" / "pep" / f"{name}.sock")

    def _certificates(self) -> Sds:
        own = str(self.state / "run" / "workload.sock")
        return Sds(self.workload_api, own) if self.workload_api else Sds(own)

    def _member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def _upstream(self, member: Member, name: str = "") -> Upstream:
        return Upstream(name or member.name, Address(host=member.reached, port=member.mtls_port), member.spiffe_id)

    def _tokens(self) -> Tokens:
        return Tokens(self.issuer, self.trust_domain, jwks=self._upstream(self._member("people"), "jwks"))

    def _egress(self, member: Member, callee: str) -> Egress:
        if member.tcp:
            listen = Address(host="127.0.0.1", port=member.egress_ports[callee])
        else:
            listen = Address(path=str(self.state / "run" / "egress" / member.name / f"{callee}.sock"))
        remote = next((one for one in self.remotes if one.name == callee), None)
        if remote is not None:
            return Egress(listen, Upstream(callee, Address.parse(remote.address), remote.spiffe_id))
        return Egress(listen, self._upstream(self._member(callee)))
