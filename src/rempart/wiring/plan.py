"""`rempart.toml` → the plan of all processes. Nothing is created or started here; ports are taken from `Ports`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from rempart.kernel.errors import BadInput
from rempart.people.administration.roles import complete

from . import process_settings as ps
from .catalog import IDENTITIES, RISKS, ROOT_SIGNER, Own, epochs_path, own_processes
from .plan_audit import audit_settings, feeds, risk_views, unused
from .plan_mesh import Member, Mesh
from .plan_model import OPERATOR, Directory, Exposed, Kind, Plan, Probe, Process, Socket, View
from .plan_names import public_url, web_names
from .plan_people import people_settings
from .plan_workloads import identity_listeners, identity_settings, static_entries
from .ports import EGRESS_FIRST, MTLS_FIRST, Ports
from .risks import risks
from .settings import AppSettings, Client, Service
from .tracing_settings import told

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with the final NUL (unix(7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `rempart up` was told besides the application. `identities_only`: no gateway, no people, no application, as
    `rempart server run` has it."""

    state: Path
    profile: str = "dev"
    listen: tuple[str, int] | None = None
    unsafe_disabled: tuple[str, ...] = ()
    identities_only: bool = False
    operator_uid: int = 0
    python: str = sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The certificates (PEM) of the two roots."""

    spiffe: str
    web: str


def make_plan(app: AppSettings, options: Options, ports: Ports, roots: Roots) -> Plan:
    """Raises BadInput `state_path_too_long`, Unavailable `no_free_port`."""
    if options.identities_only:
        app = replace(app, services=(), clients=(), workloads=replace(app.workloads, public_url=""))
    return _Planner(app, options, ports, roots).plan()


class _Planner:
    def __init__(self, app: AppSettings, options: Options, ports: Ports, roots: Roots) -> None:
        self.app, self.options, self.roots = app, options, roots
        self.state = options.state
        self.listen = options.listen or (app.listen_host, app.listen_port)
        if self.listen[1] == 0:
            self.listen = (self.listen[0], ports.take("gateway", 8443, self.listen[0]))
        self.listeners = identity_listeners(app, ports)
        self.alone = options.identities_only
        self.url = "" if self.alone else public_url(*self.listen)
        self.issuer = self.url and self.url + "/auth"
        called = frozenset(callee for source in self._sources() for callee in source.calls)
        public = bool(app.workloads.public_url)
        own = own_processes(called, public=public, without=unused(app), people=app.state.instances)
        self.own = tuple(one for one in own if not self.alone or one.name in IDENTITIES)
        self.gateway_id = f"spiffe://{app.trust_domain}/rempart/gateway"
        self.members = self._members(ports)
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
            tracing=app.tracing,
            workload_api=app.workloads.spire.agent_socket if app.workloads.spire else "",
            unsafe_disabled=options.unsafe_disabled,
        )

    def plan(self) -> Plan:
        app, processes = self.app, self._own()
        if not self.alone:
            processes += [*self._gateway(), *self._application(), *self._sidecars()]
        plan = Plan(
            state=self.state,
            profile=self.options.profile,
            app_name=app.name,
            app_directory=app.directory,
            trust_domain=app.trust_domain,
            demo=app.demo,
            gateway_url=self.url,
            issuer=self.issuer,
            web_names=web_names(self.listen[0]),
            listen=self.listen,
            tcp_ports=self._tcp_ports(),
            directories=tuple(self._directories()),
            processes=tuple(processes),
            exposed=tuple(
                Exposed(m.name, m.spiffe_id, f"https://127.0.0.1:{m.mtls_port}", m.name, m.routes)
                for m in self.members
                if m.mtls_port
            ),
            risks=tuple(risks(app, self.options.profile, self.options.unsafe_disabled)),
            unsafe_disabled=self.options.unsafe_disabled,
            tracing=told(app.tracing),
        )
        self._check_lengths(plan)
        return plan

    def _members(self, ports: Ports) -> tuple[Member, ...]:
        """Who takes part in the mesh, in the order that ports are given out: services, Rempart's own, clients."""
        app, domain = self.app, self.app.trust_domain
        members = []
        for service in app.services:
            address = (
                f"127.0.0.1:{service.port}" if service.port else f"unix:{self._svc(service.name)}/{service.socket}"
            )
            mtls = ports.take(f"mtls:{service.name}", MTLS_FIRST)
            tcp = bool(service.port)
            known = (service.name, service.spiffe_id, service.routes, service.calls)
            members.append(Member(*known, address, mtls, tcp, {}, foreign=service.callers))
        for own in self.own:
            if own.behind_sidecar:
                mtls = ports.take(f"mtls:{own.name}", MTLS_FIRST)
                spiffe_id = f"spiffe://{domain}/rempart/{own.name}"
                address = f"unix:{self._svc(own.name)}/app.sock"
                instances = app.state.instances if own.name == "people" else 1
                members.append(Member(own.name, spiffe_id, own.routes, own.calls, address, mtls, False, {}, instances))
        for client in app.clients:
            members.append(Member(client.name, client.spiffe_id, (), client.calls, "", 0, False, {}))
        for member in members:
            if member.tcp:  # a program that insists on TCP gets its ways out as TCP ports as well
                for callee in member.calls:
                    member.egress_ports[callee] = ports.take(f"egress:{member.name}:{callee}", EGRESS_FIRST)
        return tuple(members)

    def _svc(self, name: str) -> Path:
        return self.state / "run" / "svc" / name

    def _own(self) -> list[Process]:
        settings = self._settings()
        processes = [self._own_process(own, settings[own.kind]) for own in self.own]
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
            more += risk_views(self.app)
            gateway = Socket("pep:gateway", "run/pep/gateway.sock", owner="gateway")
            points = [
                Socket(f"pep:{m.name}", f"run/pep/{m.name}.sock", owner=f"{m.name}-sidecar")
                for m in self.members
                if m.mtls_port
            ]
            sockets += [gateway, *points]
        if name == "identity":
            sockets += [Socket(purpose, purpose, tcp=address) for purpose, address in self.listeners.items()]
        if name == "sequencer":
            sockets += [Socket(f"events:{s.name}", f"run/events/{s.name}.sock", owner=s.name) for s in self._sources()]
            sockets += feeds(self.app)
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

    def _sources(self) -> tuple[Service | Client, ...]:
        return (*self.app.services, *self.app.clients)

    def _settings(self) -> dict[str, msgspec.Struct]:
        app, off = self.app, list(self.options.unsafe_disabled)
        run = self.state / "run"
        metrics = {own.name: str(run / "metrics" / f"{own.name}.sock") for own in self.own}
        for name in self.mesh.names():  # by the name of its process: `people` and its sidecar are two components
            component = name if name == "gateway" else f"{name}-sidecar"
            metrics[component] = str(run / "envoy" / name / "metrics.sock")
        metrics["supervisor"] = str(run / "metrics" / "supervisor.sock")
        return {
            "identity": identity_settings(
                app,
                spiffe_root=self.roots.spiffe,
                web_root=self.roots.web,
                web_names=list(web_names(self.listen[0])),
                gateway_id=self.gateway_id,
                entries=static_entries(self.app, self.gateway_id, [(m, self._kind(m.name)) for m in self.members]),
                operator_uid=self.options.operator_uid,
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
        app = self.app
        points = [ps.EnforcementPoint(name="gateway", kind="gateway")]
        points += [
            ps.EnforcementPoint(name=m.name, kind="sidecar", service=m.name) for m in self.members if m.mtls_port
        ]
        services = {
            m.name: {
                "spiffe_id": m.spiffe_id,
                "routes": list(m.routes),
                "calls": list(m.calls),
                "callers": list(m.foreign),
            }
            for m in self.members
        }
        data: dict[str, Any] = {"trust_domain": app.trust_domain, "services": services, "gateway": self.gateway_id}
        data |= {"scoped_tokens": app.scoped_tokens, "readers_from": list(app.audit.readers_from)}
        data["roles"] = {name: rules.public() for name, rules in complete(app.roles).items()}
        return ps.PdpSettings(
            trust_domain=app.trust_domain,
            issuer=self.issuer,
            audience=app.trust_domain,
            points=points,
            routes={route: m.name for m in self.members for route in m.routes},
            data=data,
            policy_dir=str(app.policy_dir) if app.policy_dir else None,
            entrypoint=app.entrypoint,
            requests_per_minute=app.rates.person_per_minute,
            epochs_sockets=[str(self.state / epochs_path(n + 1)) for n in range(app.state.instances)],
            risk_socket=str(self.state / RISKS) if app.detection.models else "",
            step_up=app.detection.step_up,
            unsafe_disabled=off,
        )

    def _kind(self, name: str) -> Kind:
        if any(service.name == name for service in self.app.services):
            return Kind.SERVICE
        return Kind.CLIENT if any(client.name == name for client in self.app.clients) else Kind.SYSTEM

    def _gateway(self) -> list[Process]:
        return [self._envoy("gateway", "gateway", Kind.GATEWAY, self.gateway_id, self.mesh.gateway(), ())]

    def _sidecars(self) -> list[Process]:
        return [
            self._envoy(f"{m.name}-sidecar", m.name, Kind.SIDECAR, m.spiffe_id, self.mesh.sidecar(m), (m.name,))
            for m in self.members
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
        return [self._program(program) for program in self._sources()]

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

    def _directories(self) -> list[Directory]:
        shared = ("admin", "pep", "svc", "egress", "events", "metrics", "envoy", "feed")
        directories = [Directory(path) for path in ("run", *(f"run/{name}" for name in shared))]
        directories += [Directory(path) for path in ("data", "envoy", "trust")]
        directories.append(Directory("journals", group="sequencer", mode=0o751))
        directories += [Directory(path, mode=0o700) for path in ("secrets", "tls", "logs")]
        for name in (own.name for own in self.own):
            directories.append(Directory(f"data/{name}", name, name, 0o700))
            directories.append(Directory(f"journals/{name}", name, "sequencer", 0o2770))
        directories.append(Directory("journals/supervisor", OPERATOR, "sequencer", 0o2770))
        for source in self._sources():
            directories.append(Directory(f"data/{source.name}", source.name, source.name, 0o700))
        for member in self.members:
            sidecar = f"{member.name}-sidecar"
            directories.append(Directory(f"run/svc/{member.name}", member.name, member.name, 0o2770))
            directories.append(Directory(f"run/egress/{member.name}", sidecar, member.name, 0o2750))
            directories.append(Directory(f"run/envoy/{member.name}", sidecar, "observer", 0o2750))
        directories.append(Directory("run/envoy/gateway", "gateway", "observer", 0o2750))
        return directories

    def _tcp_ports(self) -> dict[str, tuple[str, int]]:
        gateways = {} if self.alone else {"the gateway": self.listen, "the gateway's mTLS": self.app.mtls.listen}
        own = {name: where for name, where in (gateways | self.listeners).items() if where}
        return own | {f"service {s.name}": ("127.0.0.1", s.port) for s in self.app.services if s.port}

    def _check_lengths(self, plan: Plan) -> None:
        paths = [str(self.state / socket.path) for process in plan.processes for socket in process.sockets]
        paths += [str(self.state / process.probe_socket) for process in plan.processes if process.probe_socket]
        paths += [process.address[5:] for process in plan.processes if process.address.startswith("unix:")]
        paths += [f"{self.state}/run/envoy/{name}/metrics.sock" for name in self.mesh.names()]
        paths += [f"{self.state}/run/egress/{m.name}/{callee}.sock" for m in self.members for callee in m.calls]
        longest = max(paths, key=lambda path: len(path.encode()))
        if (excess := len(longest.encode()) - MAX_SOCKET_PATH) > 0:
            raise BadInput(
                "state_path_too_long",
                f"{longest} is {excess} bytes longer than the {MAX_SOCKET_PATH} that a unix socket's path may have",
                "choose a shorter --state, as in --state /tmp/rempart",
            )


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
