"""`[workloads]` of rempart.toml: who may register identities."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from .check import Reader
from .plan_mesh import Remote
from .process_workloads import AgentSettings, BundleEndpointSettings, ClusterSettings, PartnerSettings, SpireSettings
from .workload_state import WorkloadState, read_workload_state

DEFAULT_AGENTS = ("0.0.0.0", 8081)  # nosec B104 - other hosts are who it is for; nothing listens unless the table is there
DEFAULT_BUNDLE = ("0.0.0.0", 8082)  # nosec B104 - as above, for partners
_ACCOUNT = re.compile(r"[a-z0-9.-]{1,253}:[a-z0-9.-]{1,253}")
_SPIRES_OWN = (
    *("upstream", "federation", "remote", "bundle_endpoint", "public_url", "docker_socket", "kubelet"),
    *("database", "agents"),
)
_PATH = re.compile(r"/|(/[A-Za-z0-9._-]+)+")


@dataclass(frozen=True, slots=True)
class Registrar:
    """A workload that may register SPIFFE IDs at and below `paths`."""

    spiffe_id: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpstreamFiles:
    """PEM files of a CA that signs for the trust domain in place of a root of ours."""

    cert: Path
    key: Path
    bundle: Path | None


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """Where the kubelet of this node answers; files whose contents may change."""

    url: str = ""
    ca: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True)
class AgentsPlan:
    """Where agents reach the server, and how they may join."""

    listen: tuple[str, int]
    settings: AgentSettings


@dataclass(frozen=True, slots=True)
class BundleEndpointPlan:
    """Where partners fetch our bundle, on a listener of its own."""

    listen: tuple[str, int]
    settings: BundleEndpointSettings


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    registrars: tuple[Registrar, ...] = ()
    upstream: UpstreamFiles | None = None
    public_url: str = ""
    partners: tuple[PartnerSettings, ...] = ()
    docker_socket: str = ""
    kubelet: KubeletSettings = KubeletSettings()
    state: WorkloadState = field(default_factory=WorkloadState)
    agents: AgentsPlan | None = None
    spire: SpireSettings | None = None
    refresh_hint: int = 300
    bundle_endpoint: BundleEndpointPlan | None = None
    remotes: tuple[Remote, ...] = ()


def read_workloads(workloads: Reader, directory: Path, domain: str) -> WorkloadSettings:
    """Paths count from `directory`, where rempart.toml lies."""
    return WorkloadSettings(
        registrars=_registrars(workloads, domain),
        upstream=_upstream(workloads, directory),
        public_url=workloads.text("public_url", pattern=r"https://[a-z0-9.-]+(:[0-9]{1,5})?"),
        partners=_partners(workloads, directory, domain),
        docker_socket=workloads.text("docker_socket", pattern=r"/.+"),
        kubelet=_kubelet(workloads.table("kubelet")),
        state=read_workload_state(workloads),
        agents=_agents(workloads, directory, domain),
        spire=_spire(workloads, domain),
        refresh_hint=workloads.seconds("refresh_hint", 300, at_least=10, at_most=86400),
        bundle_endpoint=_bundle_endpoint(workloads.table("bundle_endpoint"), directory),
        remotes=_remotes(workloads, domain),
    )


def _bundle_endpoint(reader: Reader, directory: Path) -> BundleEndpointPlan | None:
    """`[workloads.bundle_endpoint]`: `listen`, `profile`, and for https_web `cert` and `key` (PEM files)."""
    if not reader.content:
        return None
    listen = reader.address("listen", *DEFAULT_BUNDLE)
    settings = BundleEndpointSettings(
        profile=reader.text("profile", pattern="https_web|https_spiffe", default="https_spiffe"),
        cert=_text_file(reader, "cert", directory),
        key=_text_file(reader, "key", directory),
    )
    if bool(settings.cert) != bool(settings.key) or (settings.cert and settings.profile != "https_web"):
        reader.refuse("cert", "cert and key go together, and with https_web", "leave both out, or give both")
    elif settings.cert:
        try:
            files = (directory / reader.text("cert"), directory / reader.text("key"))
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password=lambda: "")
        except (ssl.SSLError, OSError):
            reader.refuse("cert", "this is no PEM certificate with its key, or the key is sealed", "see both files")
    reader.no_more()
    return BundleEndpointPlan(listen, settings)


def _remotes(workloads: Reader, domain: str) -> tuple[Remote, ...]:
    """`[[workloads.remote]]`: `name`, `spiffe_id`, `address` of services of other trust domains."""
    found = []
    for reader in workloads.tables("remote"):
        name = reader.name("name", required=True)
        spiffe_id = reader.spiffe_id("spiffe_id", default="")
        if (not spiffe_id or spiffe_id.startswith(f"spiffe://{domain}/")) and not reader.failed("spiffe_id"):
            reader.refuse("spiffe_id", "a remote service is of another trust domain", "write spiffe://PARTNER/NAME")
        address = reader.text("address", required=True, pattern=r"([0-9.]+|\[[0-9a-f:]+\]):[0-9]{1,5}")
        reader.no_more()
        found.append(Remote(name, spiffe_id, address))
    return tuple(found)


def _agents(workloads: Reader, directory: Path, domain: str) -> AgentsPlan | None:
    """`[workloads.agents]`: `listen`, `x509pop_ca` (a PEM file), `svid`, and `[[workloads.agents.kubernetes]]`."""
    reader = workloads.table("agents")
    if not reader.content:
        return None
    listen = reader.address("listen", *DEFAULT_AGENTS)
    allowed = reader.words("svid")
    if not all(one.startswith(f"spiffe://{domain}/") for one in allowed):
        reader.refuse("svid", "only ids of this trust domain may join by an SVID", f"write spiffe://{domain}/…")
    settings = AgentSettings(
        x509pop_roots=_text_file(reader, "x509pop_ca", directory),
        svid=list(allowed),
        kubernetes=[_cluster(one) for one in reader.tables("kubernetes")],
    )
    reader.no_more()
    return AgentsPlan(listen, settings)


def _cluster(reader: Reader) -> ClusterSettings:
    cluster = ClusterSettings(
        name=reader.text("cluster", pattern=r"[A-Za-z0-9._-]{1,63}", required=True),
        service_accounts=list(reader.words("service_accounts", required=True)),
        audience=reader.text("audience", default="rempart-server"),
        api=reader.text("api", pattern=r"https://[^@\s]+"),
        ca=reader.text("ca", pattern=r"/.+"),
        token=reader.text("token", pattern=r"/.+"),
        jwks=reader.text("jwks", pattern=r"/.+"),
        issuer=reader.text("issuer"),
    )
    if bool(cluster.api) == bool(cluster.jwks) and not reader.failed("api", "jwks"):
        reader.refuse("api", "a cluster is asked at its api, or known by a file with its jwks", "give one of the two")
    if cluster.jwks and not cluster.issuer:
        reader.refuse("issuer", "with jwks, the issuer that tokens name is needed", "see `iss` in a token")
    if not all(_ACCOUNT.fullmatch(one) for one in cluster.service_accounts):
        reader.refuse("service_accounts", "a service account is NAMESPACE:NAME", 'write ["rempart:agent"]')
    reader.no_more()
    return cluster


def _kubelet(reader: Reader) -> KubeletSettings:
    kubelet = KubeletSettings(
        url=reader.text("url", pattern=r"https://[^/@]+|http://(127\.0\.0\.1|\[::1\]|localhost):[0-9]+"),
        ca=reader.text("ca", pattern=r"/.+"),
        token=reader.text("token", pattern=r"/.+"),
    )
    if reader.content and not kubelet.url and not reader.failed("url"):
        reader.refuse("url", "where the kubelet answers is missing", 'write url = "https://127.0.0.1:10250"')
    reader.no_more()
    return kubelet


def _spire(workloads: Reader, domain: str) -> SpireSettings | None:
    """`backend = "spire"` and `[workloads.spire]`; what SPIRE does itself is refused beside it."""
    backend = workloads.text("backend", pattern="own|spire", default="own")
    reader = workloads.table("spire")
    agent = reader.text("agent_socket", pattern=r"/.+", required=backend == "spire")
    server = reader.text("server_socket", pattern=r"/.+", required=backend == "spire")
    parent = reader.spiffe_id("parent_id", default="")
    if parent and not parent.startswith(f"spiffe://{domain}/"):
        reader.refuse("parent_id", "SPIRE is of another trust domain", f"write spiffe://{domain}/…")
    reader.no_more()
    if backend == "own":
        if reader.content:
            workloads.refuse("spire", "SPIRE is not used", 'write backend = "spire", or leave the table out')
        return None
    for name in _SPIRES_OWN:
        if name in workloads.content:
            workloads.refuse(name, "that is SPIRE's own affair here", "leave it out and configure SPIRE")
    return SpireSettings(agent_socket=agent, server_socket=server, parent_id=parent)


def _upstream(workloads: Reader, directory: Path) -> UpstreamFiles | None:
    reader = workloads.table("upstream")
    if not reader.content:
        return None
    cert, key = reader.text("cert", required=True), reader.text("key", required=True)
    bundle = reader.text("bundle")
    reader.no_more()
    return UpstreamFiles(directory / cert, directory / key, directory / bundle if bundle else None)


def _registrars(workloads: Reader, domain: str) -> tuple[Registrar, ...]:
    """`[[workloads.registrar]]`: `spiffe_id`, `paths`."""
    found = []
    for reader in workloads.tables("registrar"):
        spiffe_id = reader.spiffe_id("spiffe_id", default="")
        if not spiffe_id.startswith(f"spiffe://{domain}/") and not reader.failed("spiffe_id"):
            reader.refuse("spiffe_id", "a registrar is a workload of this trust domain", f"write spiffe://{domain}/…")
        paths = reader.words("paths")
        if not paths or not all(_PATH.fullmatch(path) for path in paths):
            reader.refuse("paths", "a registrar needs the paths below which it may register", 'write ["/jobs"]')
        reader.no_more()
        found.append(Registrar(spiffe_id, paths))
    return tuple(found)


def _partners(workloads: Reader, directory: Path, domain: str) -> tuple[PartnerSettings, ...]:
    """`[[workloads.federation]]`: other trust domains, where their bundles are, what is known of them to begin with."""
    found: dict[str, PartnerSettings] = {}
    for reader in workloads.tables("federation"):
        name = reader.trust_domain("trust_domain", required=True)
        partner = PartnerSettings(
            trust_domain=name,
            url=reader.text("url", pattern=r"https://[^@\s]+"),
            profile=reader.text("profile", pattern="https_web|https_spiffe", default="https_web"),
            endpoint_id=reader.spiffe_id("endpoint_spiffe_id", default=""),
            ca=reader.text("ca", pattern=r"/.+"),
            bundle=_bundle(reader, directory),
        )
        spiffe = partner.profile == "https_spiffe"
        if name == domain:
            reader.refuse("trust_domain", f"{name} is this trust domain itself", "name another one")
        elif name in found:
            reader.refuse("trust_domain", f"{name} is there twice", "leave one out")
        elif not partner.url and not partner.bundle:
            reader.refuse("url", f"nothing says how {name} is known", "give url, or bundle, or both")
        elif spiffe and not (partner.endpoint_id and partner.bundle):
            reader.refuse("profile", "https_spiffe needs endpoint_spiffe_id and a first bundle", "add both")
        reader.no_more()
        found[name] = partner
    return tuple(found.values())


def _bundle(reader: Reader, directory: Path) -> str:
    """The contents of a file: a SPIFFE bundle, JSON."""
    return _text_file(reader, "bundle", directory)


def _text_file(reader: Reader, key: str, directory: Path) -> str:
    name = reader.text(key)
    try:
        return (directory / name).read_text("utf-8") if name else ""
    except (OSError, UnicodeDecodeError):
        reader.refuse(key, f"{directory / name} can't be read", "name a file that is there")
        return ""
