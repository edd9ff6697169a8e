"""`rempart.toml` → typed settings. Unknown keys are refused; every error is shown, each with its line and a remedy."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId
from rempart.mesh.model import Tracing
from rempart.people.administration.roles import RoleRules

from .alert_channels import AlertingSettings, read_alerting
from .audit_settings import AuditSettings, check_records, read_audit
from .authorities import read_authorities
from .catalog import MOST_INSTANCES, instance_names
from .check import Problem, Problems, Reader
from .detection_settings import DetectionSettings, read_detection
from .host_settings import Host, check_placed, read_hosts
from .locate import lines
from .mtls_settings import MtlsSettings, read_mtls
from .people_factors import FactorSettings, read_factors
from .people_mail import MailSettings, read_mail
from .people_oauth import OFF, SIGNING, read_registration, read_signing
from .people_roles import read_roles
from .people_sessions import SessionSettings, read_sessions
from .people_state import StateSettings, read_profile, read_state
from .plan_names import GatewayNames, read_names
from .tracing_settings import read_tracing
from .workload_settings import WorkloadSettings, read_workloads

FILE_NAME = "rempart.toml"
MAX_BYTES = 1 << 20
RESERVED_NAMES = frozenset(
    (
        "supervisor",
        "identity",
        "root-signer",
        *instance_names(MOST_INSTANCES),
        "pdp",
        "sequencer",
        "shipper",
        "detector",
        "models",
        "notifier",
        "observer",
        "gateway",
        "host-agent",
        "operator",
        "rempart",
    )
)
RESERVED_ROUTES = (
    "/login",
    "/auth",
    "/.well-known/oauth-authorization-server",
    "/logs",
    "/opa",
    "/metrics",
    "/workloads",
)
CALLABLE_SYSTEM = ("people", "identity")


@dataclass(frozen=True, slots=True)
class Service:
    """A program behind a sidecar. It listens on `socket` (a file name) or on the loopback `port`: one is set."""

    name: str
    spiffe_id: str
    command: tuple[str, ...]
    socket: str | None = None
    port: int | None = None
    routes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    """SPIFFE IDs of other trust domains that may call it."""
    health: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    host: str = ""
    """One of `hosts`; empty: where `rempart up` runs."""


@dataclass(frozen=True, slots=True)
class Client:
    """A workload that only calls. Without `command` it comes by `rempart run` or by its `selectors`."""

    name: str
    spiffe_id: str
    calls: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    host: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one source address and one person may ask of the gateway; more is answered 429."""

    address_per_second: int = 100
    address_burst: int = 500
    person_per_minute: int = 3000


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Everything `rempart.toml` says, with defaults filled in. Times are in seconds."""

    directory: Path
    name: str
    trust_domain: str
    demo: tuple[str, ...]
    listen_host: str
    listen_port: int
    services: tuple[Service, ...]
    clients: tuple[Client, ...]
    policy_dir: Path | None
    entrypoint: str
    scoped_tokens: bool
    svid_ttl: int
    access_ttl: int
    refresh_ttl: int
    rates: Rates = field(default_factory=Rates)
    roles: dict[str, RoleRules] = field(default_factory=dict)
    workloads: WorkloadSettings = field(default_factory=WorkloadSettings)
    mail: MailSettings = field(default_factory=MailSettings)
    state: StateSettings = field(default_factory=StateSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    security_profile: str = "baseline"
    client_registration: str = OFF
    signing_algorithm: str = SIGNING[0]
    factors: FactorSettings = field(default_factory=FactorSettings)
    mtls: MtlsSettings = field(default_factory=MtlsSettings)
    names: GatewayNames = field(default_factory=GatewayNames)
    backchannel_ca: str = ""
    audit: AuditSettings = field(default_factory=AuditSettings)
    tracing: Tracing | None = None
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    alerting: AlertingSettings = field(default_factory=AlertingSettings)
    hosts: tuple[Host, ...] = ()
    digest: str = ""
    """SHA-256 of the file: all hosts of an application are given the same one."""


def load(directory: Path) -> AppSettings:
    """Read `directory/rempart.toml`; raises BadInput `no_app`, `bad_toml` or `bad_settings` (all errors in one)."""
    file = directory / FILE_NAME
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise BadInput(
            "no_app", f"there is no {FILE_NAME} in {directory}", "name the application's directory: `rempart up DIR`"
        ) from None
    except OSError as error:
        raise BadInput("no_app", f"{file} can't be read: {error.strerror}", "make it readable for this user") from None
    if len(raw) > MAX_BYTES:
        raise BadInput("bad_toml", f"{file}: larger than {MAX_BYTES} bytes", "that can't be meant")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput("bad_toml", f"{file}:{line}: not UTF-8", "save the file as UTF-8") from None
    return replace(parse(text, directory.resolve(), file), digest=hashlib.sha256(raw).hexdigest())


def parse(text: str, directory: Path, file: Path | None = None) -> AppSettings:
    """Raises BadInput whose reason has one line `FILE:LINE: what` for each error."""
    file = file or directory / FILE_NAME
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(
            "bad_toml", f"{file}: {error or 'nested too deeply'}", "see https://toml.io for the format"
        ) from None
    problems = Problems(lines(text))
    settings = _read(Reader(document, (), problems), directory)
    if problems.found:
        raise BadInput(
            "bad_settings",
            _told(file, problems.sorted()),
            "correct these lines; docs/protect-your-own-app.md lists every key",
        )
    return settings


def _told(file: Path, found: list[Problem]) -> str:
    head = f"{len(found)} error{'s' if len(found) > 1 else ''} in {file}"
    return head + "".join(f"\n{file}:{p.line}: {p.reason}" + (f" → {p.remedy}" if p.remedy else "") for p in found)


def _read(root: Reader, directory: Path) -> AppSettings:
    app = root.table("app", required=True)
    name = app.name("name", required=True)
    domain = app.trust_domain("trust_domain", required=True)
    demo = app.words("demo")
    gateway = root.table("gateway")
    host, port = gateway.address("listen", "127.0.0.1", 8443)
    services = tuple(_service(reader, domain) for reader in root.tables("service"))
    clients = tuple(_client(reader, domain) for reader in root.tables("client"))
    policy = root.table("policy")
    policy_path = policy.text("path")
    entrypoint = policy.text("entrypoint", pattern=r"data(\.[A-Za-z_][A-Za-z0-9_]*)+", default="data.authz.decision")
    policy_dir = None
    if policy_path:
        policy_dir = (directory / policy_path).resolve()
        if not policy_dir.is_dir():
            policy.refuse("path", f"there is no directory {policy_dir}", "name the directory that holds the Rego files")
    identity = root.table("identity")
    tokens = root.table("tokens")
    rates = root.table("rates")
    people = root.table("people")
    workloads = root.table("workloads")
    audit = root.table("audit")
    detection = root.table("detection")
    alerting = root.table("alerting")
    roles, mail = people.table("roles"), people.table("mail")
    settings = AppSettings(
        directory=directory,
        name=name,
        trust_domain=domain,
        demo=demo,
        listen_host=host,
        listen_port=port,
        services=services,
        clients=clients,
        policy_dir=policy_dir,
        entrypoint=entrypoint or "data.authz.decision",
        scoped_tokens=policy.yes("scoped_tokens"),
        svid_ttl=identity.seconds("svid_ttl", 3600, at_least=5, at_most=86400),
        access_ttl=tokens.seconds("access_ttl", 3600, at_least=5, at_most=86400),
        refresh_ttl=tokens.seconds("refresh_ttl", 7 * 86400, at_least=60, at_most=366 * 86400),
        rates=_rates(rates),
        roles=(declared := read_roles(roles)),
        workloads=read_workloads(workloads, directory, domain),
        mail=read_mail(mail),
        state=read_state(people),
        sessions=read_sessions(people),
        security_profile=read_profile(people),
        client_registration=read_registration(people),
        signing_algorithm=read_signing(tokens),
        factors=read_factors(people, declared),
        mtls=read_mtls(gateway, directory),
        names=read_names(gateway),
        backchannel_ca=read_authorities(people, "backchannel_ca", directory),
        audit=read_audit(audit, directory),
        tracing=read_tracing(root.table("tracing"), directory),
        detection=read_detection(detection, directory),
        alerting=read_alerting(alerting, directory),
        hosts=read_hosts(root, domain),
    )
    _between(root, settings)
    read = (app, gateway, policy, identity, tokens, rates, roles, people, workloads, audit, detection, alerting, root)
    for reader in read:
        reader.no_more()
    return settings


def _rates(reader: Reader) -> Rates:
    usual = Rates()
    rates = Rates(
        address_per_second=reader.number("address_per_second", usual.address_per_second, at_most=1_000_000),
        address_burst=reader.number("address_burst", usual.address_burst, at_most=10_000_000),
        person_per_minute=reader.number("person_per_minute", usual.person_per_minute, at_most=60_000_000),
    )
    if rates.address_burst < rates.address_per_second and not reader.failed("address_burst", "address_per_second"):
        reader.refuse("address_burst", "a burst is smaller than what one second allows", "raise address_burst")
    return rates


def _spiffe_id(reader: Reader, domain: str, name: str) -> str:
    spiffe_id = reader.spiffe_id("spiffe_id", default=f"spiffe://{domain}/{name}")
    if spiffe_id.startswith(f"spiffe://{domain}/rempart/"):
        reader.refuse("spiffe_id", f"{spiffe_id} is under /rempart/, which is Rempart's own", "choose another path")
    elif spiffe_id and not spiffe_id.startswith(f"spiffe://{domain}/"):
        reader.refuse("spiffe_id", f"{spiffe_id} is not in the trust domain {domain}", f"write spiffe://{domain}/…")
    return spiffe_id


def _service(reader: Reader, domain: str) -> Service:
    name = reader.name("name", required=True, reserved=RESERVED_NAMES)
    service = Service(
        name=name,
        spiffe_id=_spiffe_id(reader, domain, name),
        command=reader.words("command", required=True),
        socket=reader.text("socket", pattern=r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}") or None,
        port=reader.port("port"),
        routes=tuple(reader.route(index, route, RESERVED_ROUTES) for index, route in enumerate(reader.words("routes"))),
        calls=reader.words("calls"),
        callers=_callers(reader, domain),
        health=reader.text("health", pattern=r"/[!-~]*") or None,
        env=reader.environment("env"),
        host=reader.text("host"),
    )
    if (service.socket is None) == (service.port is None) and not reader.failed("socket", "port"):
        remedy = 'write socket = "app.sock", which only its sidecar can reach, or port = N'
        reader.refuse("port" if service.port else "", f"service {name!r} needs exactly one of socket and port", remedy)
    reader.no_more()
    return service


def _callers(reader: Reader, domain: str) -> tuple[str, ...]:
    """Workloads of partners; those of this trust domain say themselves whom they call."""
    callers = reader.words("callers")
    for caller in callers:
        try:
            foreign = SpiffeId.parse(caller)
        except BadInput as error:
            reader.refuse("callers", error.reason, error.remedy)
            continue
        if foreign.trust_domain == domain or not foreign.path:
            reader.refuse("callers", f"{caller} is no workload of a partner", "those of this trust domain have `calls`")
    return callers


def _client(reader: Reader, domain: str) -> Client:
    name = reader.name("name", required=True, reserved=RESERVED_NAMES)
    client = Client(
        name=name,
        spiffe_id=_spiffe_id(reader, domain, name),
        calls=reader.words("calls"),
        command=reader.words("command"),
        selectors=tuple(reader.selector(index, text) for index, text in enumerate(reader.words("selectors"))),
        env=reader.environment("env"),
        host=reader.text("host"),
    )
    reader.no_more()
    return client


def _between(root: Reader, settings: AppSettings) -> None:
    """What only shows when all parts are seen together: duplicates, overlapping routes, unknown callees."""
    names: dict[str, str] = {}
    ids: dict[str, str] = {}
    ports: dict[int, str] = {settings.listen_port: "the gateway"}
    routes: dict[str, str] = {}
    remotes = {remote.name: remote.spiffe_id for remote in settings.workloads.remotes}
    members: list[tuple[str, int, Service | Client]] = [("service", i, s) for i, s in enumerate(settings.services)]
    members += [("client", i, c) for i, c in enumerate(settings.clients)]
    for name in remotes.keys() & {member.name for _, _, member in members}:
        root.problems.add(("workloads", "remote"), f"{name!r} is a service here as well", "choose another name")
    partners = {one.trust_domain for one in settings.workloads.partners}
    callable_names = {service.name for service in settings.services} | set(CALLABLE_SYSTEM) | set(remotes)
    placed = [(kind, index, member.host) for kind, index, member in members]
    check_records(root, settings.audit.records, {member.name: member.host for _, _, member in members})
    check_placed(root, settings.hosts, placed, joinable=settings.workloads.agents is not None)
    for kind, index, member in members:
        where: tuple[str | int, ...] = (kind, index)
        for value, seen, key in ((member.name, names, "name"), (member.spiffe_id, ids, "spiffe_id")):
            if value in seen:
                root.problems.add((*where, key), f"{key} {value!r} is used twice", f"{seen[value]} has it already")
            elif value:
                seen[value] = f"{kind} {member.name!r}"
        for callee in member.calls:
            if callee not in callable_names:
                root.problems.add(
                    (*where, "calls"), f"{member.name!r} calls {callee!r}, which is no service", _choose(callable_names)
                )
            elif callee == member.name:
                root.problems.add((*where, "calls"), f"{member.name!r} calls itself", "leave it out")
        foreign = [remotes[callee] for callee in member.calls if callee in remotes]
        foreign += member.callers if isinstance(member, Service) else ()
        for domain in sorted({one.split("/")[2] for one in foreign if one.count("/") > 2} - partners):
            root.problems.add(where, f"{domain} is no partner", "add it as a [[workloads.federation]]")
        if isinstance(member, Client):
            continue
        if member.port is not None:
            if member.port in ports:
                root.problems.add(
                    (*where, "port"), f"port {member.port} is used twice", f"{ports[member.port]} has it already"
                )
            ports.setdefault(member.port, f"service {member.name!r}")
        for route in member.routes:
            for other, owner in routes.items():
                if route == other or _under(route, other) or _under(other, route):
                    root.problems.add(
                        (*where, "routes"),
                        f"route {route!r} overlaps {other!r} of {owner}",
                        "give each path to one service",
                    )
            routes[route] = f"service {member.name!r}"


def _under(route: str, other: str) -> bool:
    return route.startswith(other.rstrip("/") + "/")


def _choose(names: set[str]) -> str:
    return "there are: " + ", ".join(sorted(names))
