"""What the supervisor tells each process in its boot document. Frozen, typed, unknown fields refused.

Of identity and agents see `process_workloads`, of people `process_people`, of who tells others `process_outlets`: each
process loads what is its own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .audit_store import LogStoreSettings


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
