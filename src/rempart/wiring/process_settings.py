"""What the supervisor tells each process in its boot document. Frozen, typed, unknown fields refused."""

from __future__ import annotations

from typing import Any

import msgspec

from rempart.detection.alerting.incidents import Pace
from rempart.people.administration.roles import RoleRules

from .alert_channels import ChannelSettings
from .audit_sinks import SinkSettings
from .audit_store import LogStoreSettings
from .people_factors import FactorSettings
from .people_mail import MailSettings
from .people_sessions import SessionSettings
from .people_state import StateSettings
from .workload_state import WorkloadState


class StaticEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A registration entry that comes from `rempart.toml`: not editable while the system runs."""

    spiffe_id: str
    selectors: list[str]
    ttl: int = 0
    federates_with: list[str] = []
    parent_id: str = ""  # the agent of the host on which it runs; empty: this one


class RegistrarSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A workload that may register ids at and below `paths`."""

    spiffe_id: str
    paths: list[str]


class PartnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As `workloads.federation.Partner`."""

    trust_domain: str
    url: str = ""
    profile: str = "https_web"
    endpoint_id: str = ""
    ca: str = ""
    bundle: str = ""


class BundleEndpointSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where partners fetch our bundle. `profile` https_spiffe: under an SVID of its own; https_web: under `cert` and
    `key` (PEM), or without them under the certificate of the gateway's names."""

    profile: str = "https_spiffe"
    cert: str = ""
    key: str = ""


class ClusterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Kubernetes cluster: its API server, or the file of its keys with the issuer that its tokens name."""

    name: str
    service_accounts: list[str]
    audience: str
    api: str = ""
    ca: str = ""
    token: str = ""
    jwks: str = ""
    issuer: str = ""


class AgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How agents may join besides by join token. `x509pop_roots` is PEM; `svid`: ids at and below these."""

    x509pop_roots: str = ""
    svid: list[str] = []
    kubernetes: list[ClusterSettings] = []


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the agent of another host is told, so that it makes the same plan: `toml` is the digest of rempart.toml,
    `address` where the gateway's host is reached (empty: where the agent reaches the server), `ports` those of sidecars
    by member. `services` run there, and are all that its agent may record decisions and events of."""

    name: str
    toml: str
    gateway: tuple[str, int]
    address: str
    ports: dict[str, int]
    services: list[str]


class HostAgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the process `host-agent`. `evidence` is the way to join again, with the names of files; `policy_dir` is
    where the policy of the gateway's host is put for the PDP (empty: the built-in one)."""

    trust_domain: str
    servers: list[tuple[str, int]]
    journals_dir: str
    journals: list[str]
    event_sources: list[str]
    policy_dir: str = ""
    evidence: list[str] = []
    access_logs: dict[str, int] = {}


class SpireSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A SPIRE that gives the trust domain's identities. `agent_socket`: its Workload API; `server_socket`: its server's
    administrative API. `parent_id`: the agent of this host, or an alias of it; empty: the only agent there is.
    `users`: the uid of each supervised process, which the supervisor fills in."""

    agent_socket: str
    server_socket: str
    parent_id: str = ""
    users: dict[str, int] = {}


class IdentitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times in seconds. `web_names` are the DNS names and addresses of the gateway's server certificate."""

    trust_domain: str
    spiffe_root_pem: str
    web_root_pem: str
    web_names: list[str]
    gateway_spiffe_id: str
    entries: list[StaticEntry]
    svid_ttl: int = 3600
    issuing_ttl: int = 86400
    operator_uid: int = 0
    registrars: list[RegistrarSettings] = []
    partners: list[PartnerSettings] = []
    docker_socket: str = ""
    kubelet_url: str = ""
    kubelet_ca: str = ""
    kubelet_token: str = ""
    refresh_hint: int = 300  # seconds after which partners shall ask for our bundle again
    bundle_endpoint: BundleEndpointSettings | None = None
    public_url: str = ""  # https origin at which the gateway is reached by others
    state: WorkloadState = WorkloadState()
    agents: AgentSettings = AgentSettings()
    hosts: dict[str, HostSettings] = {}  # by the SPIFFE ID of their agents
    epochs_sockets: list[str] = []  # with hosts: where people tells whose tokens are superseded
    policies_socket: str = ""  # with hosts and a policy of the application: the PDP's
    spire: SpireSettings | None = None
    unsafe_disabled: list[str] = []


class PeopleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    issuer: str
    audience: str
    access_ttl: int = 3600
    refresh_ttl: int = 7 * 86400
    signing_algorithm: str = "ES256"  # of access tokens
    signing_key_ttl: int = 30 * 86400
    jwks_max_age: int = 60
    signing_key_lead: int = 180  # a new key is published this long before it signs: longer than any key set is cached
    argon2_workers: int = 2
    factors: FactorSettings = FactorSettings()
    client_ip_header: str = "x-forwarded-for"  # believed from the gateway only
    gateway_spiffe_id: str = (
        ""  # empty: the trust domain's rempart/gateway; as empty, below: its users, payment, wallet
    )
    administration_callers: list[str] = []
    payment_readers: list[str] = []
    roles: dict[str, RoleRules] = {}  # the application's own, and permissions of built-in ones
    mail: MailSettings = MailSettings()
    state: StateSettings = StateSettings()
    sessions: SessionSettings = SessionSettings()
    security_profile: str = "baseline"  # or "fapi2"
    client_registration: str = "off"  # or "invited"
    backchannel_ca: str = ""  # PEM of authorities believed, beside the public ones, where clients are told of logouts
    mtls_url: str = ""  # origin where clients are asked for certificates
    other_origins: list[str] = []  # at which the gateway answers, too: browsers are sent to the issuer's
    mtls_authorities: str = ""  # PEM of those whose certificates name clients
    workload_api: str = ""  # where the keys of JWT-SVIDs come from; empty: a JWT-SVID buys nothing
    unsafe_disabled: list[str] = []


class EnforcementPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A socket `pep:{name}`. `service` is what stands behind it; empty at the gateway, where `routes` tell."""

    name: str
    kind: str  # "gateway" | "sidecar"
    service: str = ""


class PdpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data` is merged under `data.rempart`; `routes` maps a path prefix to a service, for the gateway's input."""

    trust_domain: str
    issuer: str
    audience: str
    points: list[EnforcementPoint]
    routes: dict[str, str]
    data: dict[str, Any]
    policy_dir: str | None = None
    entrypoint: str = "data.authz.decision"
    requests_per_minute: int
    epochs_sockets: list[str] = []  # where each instance of people tells whose tokens are superseded; none: nobody
    risk_socket: str = ""  # where the models tell whose risk is raised; empty: nobody's is
    other_origins: list[str] = []  # at which the gateway answers, beside the issuer's
    step_up: bool = True  # who is at high risk has to log in again
    unsafe_disabled: list[str] = []


class SequencerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`origin` names the log in its checkpoints. `access_logs` maps an Envoy's name to the read end of its output."""

    origin: str
    journals_dir: str
    access_logs: dict[str, int] = {}
    event_sources: list[str] = []
    records: dict[str, list[str]] = {}  # by program: groups of events that it may tell besides its own
    witnesses: dict[str, str] = {}  # URL → verifier key
    witness_quorum: int = 0
    store: LogStoreSettings = LogStoreSettings()
    retention: dict[str, int] = {}  # days by class of event


class ShipperSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's; `host_name` stands in syslog messages."""

    sinks: list[SinkSettings]
    feed_socket: str
    host_name: str


class NotifierSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's."""

    channels: list[ChannelSettings]
    pace: Pace
    feed_socket: str


class DetectorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's; `rules_dir` holds rules besides the built-in ones."""

    feed_socket: str
    rules_dir: str = ""
    geo_file: str = ""


class ModelsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`feed_socket`: the sequencer's. `least`: rows that a model needs at least; 0: as the models say themselves."""

    trust_domain: str
    feed_socket: str
    geo_file: str = ""
    least: int = 0


class ObserverSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`metrics` maps a component to the unix socket that answers GET /metrics. `issuer` is who issues people's tokens;
    `people_socket` the observer's own way to people (its sidecar's egress), where the JWKS comes from."""

    trust_domain: str
    issuer: str
    people_socket: str
    metrics: dict[str, str]
    policies_socket: str
    audit_socket: str
