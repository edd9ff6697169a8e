"""`rempart.toml` → the plan of all processes. Nothing is created or started here; ports are taken from `Ports`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from . import process_settings as ps
from .catalog import HOST_AGENT, IDENTITIES, RISKS, ROOT_SIGNER, Own, epochs_path, own_processes
from .plan_audit import audit_settings, feeds, risk_views, unused
from .plan_hosts import POLICY, Elsewhere, Places, host_agent_settings, host_settings
from .plan_members import mesh_members
from .plan_mesh import Member, Mesh
from .plan_model import Directory, Exposed, Kind, Plan, Probe, Process, Socket, View
from .plan_names import web_names
from .plan_people import people_settings
from .plan_policy import pdp_settings
from .plan_state import check_lengths, directories
from .plan_workloads import identity_listeners, identity_settings, static_entries
from .ports import Ports
from .risks import risks
from .settings import AppSettings, Client, Service
from .tracing_settings import told


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `rempart up` was told besides the application. `identities_only`: no gateway, no people, no application, as
    `rempart server run` has it."""

    state: Path
    profile: str = "dev"
    listen: tuple[str, int] | None = None
    unsafe_disabled: tuple[str, ...] = ()
    identities_only: bool = False
    elsewhere: Elsewhere | None = None
    operator_uid: int = 0
    python: str = sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The certificates (PEM) of the two roots."""

    spiffe: str
    web: str


def make_plan(app: AppSettings, options: Options, ports: Ports, roots: Roots) -> Plan:
    """Raises BadInput `state_path_too_long` | `no_address`, Unavailable `no_free_port`."""
    if options.identities_only:
        app = replace(app, services=(), clients=(), hosts=(), workloads=replace(app.workloads, public_url=""))
    return _Planner(app, options, ports, roots).plan()


class _Planner:
    def __init__(self, app: AppSettings, options: Options, ports: Ports, roots: Roots) -> None:
        self.app, self.options, self.roots = app, options, roots
        self.state = options.state
        self.elsewhere = options.elsewhere
        self.places = Places(app, options.elsewhere)
        self.listen = options.listen or (app.listen_host, app.listen_port)
        if self.elsewhere:
            self.listen = self.elsewhere.told.gateway
        elif self.listen[1] == 0:
            self.listen = (self.listen[0], ports.take("gateway", 8443, self.listen[0]))
        self.listeners = {} if self.elsewhere else identity_listeners(app, ports)
        self.alone = options.identities_only
        self.url = "" if self.alone else app.names.here(*self.listen)
        self.issuer = self.url and self.url + "/auth"
        called = frozenset(callee for source in self._sources() for callee in source.calls)
        public = bool(app.workloads.public_url)
        own = own_processes(called, public=public, without=unused(app), people=app.state.instances)
        self.own = tuple(one for one in own if not self.alone or one.name in IDENTITIES)
        declared = self.own
        if self.elsewhere:
            self.own = (HOST_AGENT, *(one for one in self.own if one.name == "pdp"))
        self.gateway_id = f"spiffe://{app.trust_domain}/rempart/gateway"
        self.members = mesh_members(app, declared, self.state, self.places, ports)
        self.near = tuple(member for member in self.members if self.places.here(member))
        self.mesh = Mesh(
            state=self.state,
            trust_domain=app.trust_domain,
            issuer=self.issuer,
            listen=self.listen,
            mtls_listen=app.mtls.listen,
            gateway_id=self.gateway_id,
            members=self.members,
            remotes=app.workloads.remotes,
            rates=app.rates,
            svid_ttl=float(app.svid_ttl),
            tracing=app.tracing,
            workload_api=app.workloads.spire.agent_socket if app.workloads.spire else "",
            unsafe_disabled=options.unsafe_disabled,
        )

    def plan(self) -> Plan:
        app, processes = self.app, self._own()
        if not self.alone:
            gateway = () if self.elsewhere else self._gateway()
            processes += [*gateway, *self._application(), *self._sidecars()]
        plan = Plan(
            state=self.state,
            profile=self.options.profile,
            app_name=app.name,
            app_directory=app.directory,
            trust_domain=app.trust_domain,
            demo=app.demo,
            gateway_url="" if self.elsewhere else self.url,
            issuer=self.issuer,
            web_names=web_names(self.listen[0], app.names),
            listen=self.listen,
            tcp_ports=self._tcp_ports(),
            directories=tuple(self._directories()),
            processes=tuple(processes),
            exposed=tuple(
                Exposed(m.name, m.spiffe_id, _url(m.reached, m.mtls_port), m.name, m.routes, m.host)
                for m in (self.near if self.elsewhere else self.members)
                if m.mtls_port
            ),
            risks=tuple(risks(app, self.options.profile, self.options.unsafe_disabled)),
            unsafe_disabled=self.options.unsafe_disabled,
            tracing=told(app.tracing),
            authority=self.elsewhere is None,
        )
        check_lengths(plan, self.near)
        return plan

    def _svc(self, name: str) -> Path:
        return self.state / "run" / "svc" / name

    def _own(self) -> list[Process]:
        settings = self._settings()
        processes = [self._own_process(own, settings[own.kind]) for own in self.own]
        if self.elsewhere:
            return processes
        signer = Process(
            name=ROOT_SIGNER.name,
            subject=ROOT_SIGNER.name,
            kind=Kind.SYSTEM,
            command=(self.options.python, "-m", ROOT_SIGNER.module),
            probe=Probe.NONE,
            supervised=False,
        )
        return [*processes, signer]

    def _own_process(self, own: Own, settings: msgspec.Struct) -> Process:
        name = own.name
        sockets = [
            *own.sockets,
            Socket("admin", f"run/admin/{name}.sock"),
            Socket("metrics", f"run/metrics/{name}.sock", owner="observer"),
        ]
        more: list[View] = []
        if name == "pdp":
            more = [View(epochs_path(number)) for number in range(2, self.app.state.instances + 1)]
            more += [] if self.elsewhere else risk_views(self.app)
            sockets += [
                Socket(f"pep:{point.name}", f"run/pep/{point.name}.sock", owner=_envoy(point.name))
                for point in self._points()
            ]
            if self.elsewhere and self.app.policy_dir:
                more.append(View("policy"))
        if self.app.hosts and not self.elsewhere:  # identity passes on to other hosts what is told here
            sockets = [_shared(one) if one.name in ("epochs", "policies") else one for one in sockets]
            if name == "identity":
                more += [View(epochs_path(number + 1)) for number in range(self.app.state.instances)]
                more.append(View("run/policies.sock"))
        if name == "host-agent":
            sockets += self._event_sockets()
        if name == "identity":
            sockets += [Socket(purpose, purpose, tcp=address) for purpose, address in self.listeners.items()]
        if name == "sequencer":
            sockets += [*self._event_sockets(), *feeds(self.app)]
        return Process(
            name=name,
            subject=name,
            kind=Kind.SYSTEM,
            command=(self.options.python, "-m", own.module),
            probe=Probe.BOOT,
            spiffe_id=f"spiffe://{self.app.trust_domain}/rempart/{name}" if own.behind_sidecar else "",
            settings=msgspec.to_builtins(settings),
            sockets=tuple(sockets),
            sees=(View(f"data/{name}", True), View(f"journals/{name}", True), *own.sees, *more),
            probe_socket=f"run/metrics/{name}.sock",
            address=f"unix:{self._svc(name)}/app.sock" if own.behind_sidecar else "",
            reads_access_logs=own.reads_access_logs,
        )

    def _event_sockets(self) -> list[Socket]:
        return [Socket(f"events:{s.name}", f"run/events/{s.name}.sock", owner=s.name) for s in self._programs()]

    def _sources(self) -> tuple[Service | Client, ...]:
        return (*self.app.services, *self.app.clients)

    def _programs(self) -> list[Service | Client]:
        """Those of this host."""
        return [program for program in self._sources() if self.places.here(program)]

    def _settings(self) -> dict[str, msgspec.Struct]:
        if self.elsewhere:
            agent = host_agent_settings(self.app, self.elsewhere, self.state, [one.name for one in self._programs()])
            return {"host-agent": agent, "pdp": self._pdp(list(self.options.unsafe_disabled))}
        app, off = self.app, list(self.options.unsafe_disabled)
        run = self.state / "run"
        metrics = {own.name: str(run / "metrics" / f"{own.name}.sock") for own in self.own}
        for name in ("gateway", *(member.name for member in self.near)):
            # by the name of its process: `people` and its sidecar are two components
            component = name if name == "gateway" else f"{name}-sidecar"
            metrics[component] = str(run / "envoy" / name / "metrics.sock")
        metrics["supervisor"] = str(run / "metrics" / "supervisor.sock")
        return {
            "identity": identity_settings(
                app,
                spiffe_root=self.roots.spiffe,
                web_root=self.roots.web,
                web_names=list(web_names(self.listen[0], app.names)),
                gateway_id=self.gateway_id,
                entries=static_entries(self.app, self.gateway_id, [(m, self._kind(m.name)) for m in self.members]),
                operator_uid=self.options.operator_uid,
                hosts=host_settings(app, self.listen, self.members),
                run=run,
                unsafe_disabled=off,
            ),
            "people": people_settings(app, self.issuer, self.mesh.endpoint, off),
            "pdp": self._pdp(off),
            **audit_settings(app, self.state),
            "detector": ps.DetectorSettings(
                feed_socket=str(run / "feed" / "detector.sock"),
                rules_dir=str(app.detection.rules_dir or ""),
                geo_file=str(app.detection.geo_file or ""),
            ),
            "observer": ps.ObserverSettings(
                trust_domain=app.trust_domain,
                issuer=self.issuer,
                people_socket=str(run / "egress" / "observer" / "people.sock"),
                metrics=metrics,
                policies_socket=str(run / "policies.sock"),
                audit_socket=str(run / "audit.sock"),
            ),
        }

    def _pdp(self, off: list[str]) -> ps.PdpSettings:
        policy = self.state / POLICY if self.elsewhere else self.app.policy_dir
        return pdp_settings(
            self.app,
            issuer=self.issuer,
            gateway_id=self.gateway_id,
            members=self.members,
            points=self._points(),
            policy_dir=policy if self.app.policy_dir else None,
            epochs=[str(self.state / path) for path in self._epochs()],
            risk_socket=str(self.state / RISKS) if self.app.detection.models and not self.elsewhere else "",
            unsafe_disabled=off,
        )

    def _epochs(self) -> list[str]:
        """Where people tells whose tokens are superseded: each instance, or on another host its agent for all."""
        return [epochs_path(n + 1) for n in range(1 if self.elsewhere else self.app.state.instances)]

    def _points(self) -> list[ps.EnforcementPoint]:
        points = [] if self.elsewhere else [ps.EnforcementPoint(name="gateway", kind="gateway")]
        return points + [
            ps.EnforcementPoint(name=m.name, kind="sidecar", service=m.name) for m in self.near if m.mtls_port
        ]

    def _kind(self, name: str) -> Kind:
        if any(service.name == name for service in self.app.services):
            return Kind.SERVICE
        return Kind.CLIENT if any(client.name == name for client in self.app.clients) else Kind.SYSTEM

    def _gateway(self) -> list[Process]:
        return [self._envoy("gateway", "gateway", Kind.GATEWAY, self.gateway_id, self.mesh.gateway(), ())]

    def _sidecars(self) -> list[Process]:
        return [
            self._envoy(f"{m.name}-sidecar", m.name, Kind.SIDECAR, m.spiffe_id, self.mesh.sidecar(m), (m.name,))
            for m in self.near
        ]

    def _envoy(
        self, name: str, subject: str, kind: Kind, spiffe_id: str, config: dict[str, Any], groups: tuple[str, ...]
    ) -> Process:
        sees = [View(f"envoy/{subject}.json"), View(f"run/envoy/{subject}", True), View("run/workload.sock")]
        if kind is Kind.GATEWAY or subject not in {client.name for client in self.app.clients}:
            sees.append(View(f"run/pep/{subject}.sock"))
        if kind is Kind.SIDECAR:
            sees += [View(f"run/egress/{subject}", True), View(f"run/svc/{subject}")]
        return Process(
            name=name,
            subject=subject,
            kind=kind,
            command=self.mesh.command(subject),
            probe=Probe.ENVOY,
            spiffe_id=spiffe_id,
            sees=tuple(sees),
            groups=groups,
            probe_socket=f"run/envoy/{subject}/admin.sock",
            config=config,
        )

    def _application(self) -> list[Process]:
        return [self._program(program) for program in self._programs()]

    def _program(self, program: Service | Client) -> Process:
        member = next(m for m in self.members if m.name == program.name)
        name, is_service = program.name, isinstance(program, Service)
        env = {
            "SPIFFE_ENDPOINT_SOCKET": self.mesh.endpoint,
            "REMPART_SERVICE": name,
            "REMPART_SPIFFE_ID": member.spiffe_id,
            "REMPART_TRUST_DOMAIN": self.app.trust_domain,
            "REMPART_ISSUER": self.issuer,
            "REMPART_DATA": str(self.state / "data" / name),
            "REMPART_EVENTS": f"unix:{self.state}/run/events/{name}.sock",
            **{f"REMPART_{_variable(callee)}_URL": self._way(member, callee) for callee in member.calls},
        }
        if is_service:
            env["REMPART_LISTEN"] = member.address
        sees = [
            View(f"data/{name}", True),
            View(f"run/svc/{name}", True),
            View(f"run/egress/{name}"),
            View(f"run/events/{name}.sock"),
            View("run/workload.sock"),
        ]
        return Process(
            name=name,
            subject=name,
            kind=Kind.SERVICE if is_service else Kind.CLIENT,
            command=program.command,
            probe=Probe.SERVICE if is_service else Probe.NONE,
            spiffe_id=member.spiffe_id,
            cwd=self.app.directory,
            env={**program.env, **env},
            sees=tuple(sees),
            health=program.health if isinstance(program, Service) else None,
            address=member.address,
            supervised=bool(program.command),
        )

    def _way(self, member: Member, callee: str) -> str:
        if member.tcp:
            return f"http://127.0.0.1:{member.egress_ports[callee]}"
        return "http+unix://" + quote(str(self.state / "run" / "egress" / member.name / f"{callee}.sock"), safe="")

    def _tcp_ports(self) -> dict[str, tuple[str, int]]:
        gateways = {"the gateway": self.listen, "the gateway's mTLS": self.app.mtls.listen}
        if self.alone or self.elsewhere:
            gateways = {}
        own = {name: where for name, where in (gateways | self.listeners).items() if where}
        if self.elsewhere:
            own |= {f"the sidecar of {m.name}": (m.listens, m.mtls_port) for m in self.near if m.mtls_port}
        return own | {
            f"service {s.name}": ("127.0.0.1", s.port) for s in self.app.services if s.port and self.places.here(s)
        }

    def _directories(self) -> list[Directory]:
        reader = HOST_AGENT.name if self.elsewhere else "sequencer"
        found = directories([own.name for own in self.own], [one.name for one in self._programs()], self.near, reader)
        return [*found, Directory("policy", HOST_AGENT.name, "pdp", 0o2750)] if self.elsewhere else found


def _envoy(point: str) -> str:
    """The Envoy of an enforcement point."""
    return point if point == "gateway" else f"{point}-sidecar"


def _shared(socket: Socket) -> Socket:
    return replace(socket, group="identity", mode=0o660)


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
