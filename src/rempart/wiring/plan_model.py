"""A plan: every process that has to run, what it is given and what it may see, before anything is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

OPERATOR = "operator"
"""The owner of what only the user who ran `up` may touch."""


class Kind(StrEnum):
    SYSTEM = "system"
    GATEWAY = "gateway"
    SIDECAR = "sidecar"
    SERVICE = "service"
    CLIENT = "client"


class Probe(StrEnum):
    """How to know that a process is ready, and later that it isn't hung."""

    BOOT = "boot"  # it writes a byte to REMPART_READY_FD; afterwards `probe_socket` answers HTTP
    ENVOY = "envoy"  # `/ready` on its admin socket answers LIVE
    SERVICE = "service"  # its health path answers, or its socket accepts
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory below the state directory; `owner` and `group` are names of processes (or OPERATOR)."""

    path: str
    owner: str = OPERATOR
    group: str = OPERATOR
    mode: int = 0o711


@dataclass(frozen=True, slots=True)
class Socket:
    """A unix socket that the supervisor binds at `path` (below the state directory); `name` as in `Boot.sockets`.

    With `tcp` it is a TCP socket at that address instead, and `path` only names it.
    """

    name: str
    path: str
    owner: str = OPERATOR
    group: str = OPERATOR
    mode: int = 0o600
    tcp: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A part of the state directory that a process sees when it has a mount namespace of its own."""

    path: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`subject` and `kind` are what attestation calls it: the sidecar of `wallet` has the subject `wallet`.

    `settings` (JSON) is set for Rempart's own processes, which start from a Boot document. `groups` names processes
    whose group it joins. `config` is an Envoy's configuration. `command` may be relative to PATH. `address` is where
    a service listens: `unix:/path` or `host:port`.
    """

    name: str
    subject: str
    kind: Kind
    command: tuple[str, ...]
    probe: Probe
    spiffe_id: str = ""
    cwd: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] | None = None
    sockets: tuple[Socket, ...] = ()
    sees: tuple[View, ...] = ()
    groups: tuple[str, ...] = ()
    probe_socket: str = ""
    health: str | None = None
    address: str = ""
    config: dict[str, Any] | None = None
    reads_access_logs: bool = False
    supervised: bool = True  # False: a client that `rempart run` brings

    @property
    def attested_kind(self) -> str:
        """`kind` in the words of the supervisor protocol and of selectors."""
        return Kind.SYSTEM.value if self.kind is Kind.GATEWAY else self.kind.value


@dataclass(frozen=True, slots=True)
class Exposed:
    """A service as `status` lists it."""

    name: str
    spiffe_id: str
    mtls: str
    process: str
    routes: tuple[str, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Risk:
    service: str
    risk: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    state: Path
    profile: str
    app_name: str
    app_directory: Path
    trust_domain: str
    demo: tuple[str, ...]
    gateway_url: str
    issuer: str
    web_names: tuple[str, ...]
    listen: tuple[str, int]
    tcp_ports: dict[str, tuple[str, int]]  # what must be free before the start: purpose → address
    directories: tuple[Directory, ...]
    processes: tuple[Process, ...]
    exposed: tuple[Exposed, ...]
    risks: tuple[Risk, ...]
    unsafe_disabled: tuple[str, ...] = ()
    tracing: dict[str, Any] | None = None  # as `wiring.tracing_settings.told` says it
    authority: bool = True  # False on a host whose identities come from another one's server

    def process(self, name: str) -> Process:
        return next(process for process in self.processes if process.name == name)
