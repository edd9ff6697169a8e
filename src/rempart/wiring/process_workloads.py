"""What the supervisor tells identity and the agent of a host: see `process_settings`."""

from __future__ import annotations

import msgspec

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
