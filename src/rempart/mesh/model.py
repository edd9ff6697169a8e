"""What an Envoy of ours is told, as frozen values; `rempart.mesh.config.envoy_config` turns them into configuration.

A gateway that sends `/wallet` to the sidecar of `wallet`:

    GatewaySettings(
        spiffe_id="spiffe://bank.example/rempart/gateway",
        run_dir="/state/run/envoy/gateway",
        listen=Address.parse("127.0.0.1:8443"),
        certificates=Sds("/state/run/workload.sock"),
        pdp_socket="/state/run/pep/gateway.sock",
        tokens=Tokens("https://localhost:8443/auth", "bank.example", jwks=Upstream("jwks", people_address, people_id)),
        upstreams=(Upstream("wallet", Address.parse("127.0.0.1:15001"), "spiffe://bank.example/wallet"),),
        routes=(Route("/wallet", "wallet"),),
    )

The sidecar of `wallet`, which may call `users`:

    SidecarSettings(
        name="wallet",
        spiffe_id="spiffe://bank.example/wallet",
        run_dir="/state/run/envoy/wallet",
        certificates=Sds("/state/run/workload.sock"),
        ingress=Ingress(
            listen=Address.parse("127.0.0.1:15001"),
            application=Address.parse("unix:/state/run/svc/wallet/app.sock"),
            callers=("spiffe://bank.example/rempart/gateway", "spiffe://bank.example/payment"),
            pdp_socket="/state/run/pep/wallet.sock",
            tokens=tokens,
        ),
        egress=(Egress(Address.parse("unix:/state/run/egress/wallet/users.sock"), Upstream("users", users, users_id)),),
    )

A client workload has no `ingress`. Every constructor raises BadInput `bad_mesh_settings` when a value can't be used.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,=:@-]+)+|/")
_PIPE_BYTES = 107  # sun_path holds 108 bytes with the final NUL (unix(7))


class Control(StrEnum):
    """A protection that can be switched off on its own, to prove that the attack suite notices (dev profile only)."""

    STRIP_IDENTITY_HEADERS = "strip-identity-headers"
    REJECT_UNDERSCORE_HEADERS = "reject-underscore-headers"
    NORMALIZE_PATH = "normalize-path"
    VERIFY_TOKEN_AUDIENCE = "verify-token-audience"  # nosec B105 - the name of a control
    VERIFY_TOKEN_ISSUER = "verify-token-issuer"  # nosec B105 - the name of a control
    PEER_ALLOW_LIST = "peer-allow-list"
    RATE_LIMIT_IP = "rate-limit-ip"
    REQUEST_SIZE = "request-size"
    TIMEOUTS = "timeouts"
    TLS_VERSION = "tls-version"
    SANITIZE_XFCC = "sanitize-xfcc"


def mesh_controls(names: Iterable[str]) -> frozenset[Control]:
    """Those of `names` that are controls of the mesh; the others belong to other rooms."""
    known = {control.value for control in Control}
    return frozenset(Control(name) for name in names if name in known)


def _bad(reason: str, remedy: str) -> BadInput:
    return BadInput("bad_mesh_settings", reason, remedy)


def _positive(owner: object, **values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise _bad(f"{type(owner).__name__}.{name} is {value}", "give a number above zero")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address (`host` and `port`) or the absolute path of a unix socket (`path`)."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        if self.path:
            if self.host or self.port:
                raise _bad("an address has both a path and a host", "give one of them")
            if not self.path.startswith("/") or "\0" in self.path:
                raise _bad(f"{self.path!r} is not an absolute path", "write unix:/absolute/path.sock")
            if len(self.path.encode()) > _PIPE_BYTES:
                raise _bad(f"{self.path} is longer than a unix socket's {_PIPE_BYTES} bytes", "use a shorter --state")
            return
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise _bad(f"{self.host!r} is not an IP address", "write 127.0.0.1:8443 or unix:/path.sock") from None
        if not 0 < self.port < 65536:
            raise _bad(f"{self.port} is not a port", "use 1 to 65535")

    @staticmethod
    def parse(text: str) -> Address:
        """`127.0.0.1:8443`, `[::1]:8443`, `localhost:8443` (as 127.0.0.1) or `unix:/absolute/path.sock`."""
        if text.startswith("unix:"):
            return Address(path=text[5:])
        host, _, port = text.rpartition(":")
        if not port.isascii() or not port.isdigit():
            raise _bad(f"{text!r} is not an address", "write 127.0.0.1:8443 or unix:/path.sock")
        host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
        return Address(host=host, port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sds:
    """Certificates and bundles come hot from the Workload API's socket: an SPIFFE ID, `ALL` and `web` by name; where
    `web_socket` is another one, `web` from there."""

    socket: str
    web_socket: str = ""

    def __post_init__(self) -> None:
        Address(path=self.socket)
        Address(path=self.web_socket or self.socket)


@dataclass(frozen=True, slots=True)
class Files:
    """The same secrets from files, for an Envoy without an identity server: PEM certificates, PEM keys, PEM bundles.

    `bundles` maps a trust domain to the file of its authorities.
    """

    certificate: str
    key: str
    bundles: tuple[tuple[str, str], ...]
    web_certificate: str = ""
    web_key: str = ""


Certificates = Sds | Files


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a request goes: with a `spiffe_id` over mTLS to exactly that one, without in the clear (own host only)."""

    name: str
    address: Address
    spiffe_id: str = ""
    http2: bool | None = None  # None: the protocol the caller speaks
    more: tuple[Address, ...] = ()  # further instances of the same

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise _bad(f"{self.name!r} can't name an upstream", "use lower-case letters, digits, - and _")
        if self.spiffe_id:
            SpiffeId.parse(self.spiffe_id)


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` and what lies under it (`/wallet`, `/wallet/…`, never `/wallets`) goes to the upstream of that name."""

    prefix: str
    upstream: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix) or any(s in (".", "..") for s in self.prefix.split("/")):
            raise _bad(f"{self.prefix!r} is not a path prefix", "start with /, no trailing slash, no escapes")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Whose tokens are believed. `jwks` answers GET `jwks_path`; keys are fetched again every `refresh_s` seconds."""

    issuer: str
    audience: str
    jwks: Upstream
    jwks_path: str = "/auth/jwks.json"
    refresh_s: int = 30
    cache_size: int = 2000

    def __post_init__(self) -> None:
        _positive(self, refresh_s=self.refresh_s, cache_size=self.cache_size)
        if not self.issuer or not self.audience:
            raise _bad("a token needs an issuer and an audience", "set both")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes or KiB, times in seconds, rates per source address."""

    max_request_bytes: int = 1 << 20
    max_headers: int = 100
    max_headers_kib: int = 32
    max_connections: int = 1000
    max_connection_s: float = 900.0
    max_requests_per_connection: int = 100_000
    max_streams: int = 100
    handshake_s: float = 5.0
    headers_s: float = 5.0
    request_s: float = 15.0
    stream_idle_s: float = 30.0
    connection_idle_s: float = 60.0
    response_s: float = 15.0
    connect_s: float = 1.0
    authorization_s: float = 2.0
    ip_requests_per_s: int = 100
    ip_burst: int = 500

    def __post_init__(self) -> None:
        _positive(self, **{name: getattr(self, name) for name in self.__slots__})
        if not self.max_headers_kib <= 8192:
            raise _bad("max_headers_kib is above 8192", "Envoy allows 8192 KiB at most")
        if self.ip_burst < self.ip_requests_per_s:
            raise _bad("ip_burst is below ip_requests_per_s", "let a burst hold at least one second's requests")


@dataclass(frozen=True, slots=True)
class Ingress:
    """mTLS from one of `callers` (exact SPIFFE IDs), then the PDP, then the application.

    `http2` when the application speaks HTTP/2 without TLS (gRPC); HTTP/1.1 otherwise. `more`: further instances of the
    application, of which those that answer `HEALTH` get requests in turn.
    """

    listen: Address
    application: Address
    callers: tuple[str, ...]
    pdp_socket: str
    tokens: Tokens
    http2: bool = False
    more: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        Address(path=self.pdp_socket)
        for caller in self.callers:
            SpiffeId.parse(caller)
        if not self.callers:
            raise _bad("no caller is allowed", "name the SPIFFE IDs that may call, the gateway among them")


@dataclass(frozen=True, slots=True)
class Egress:
    """The application's way to `to`: what arrives on `listen` leaves over mTLS under the sidecar's identity."""

    listen: Address
    to: Upstream

    def __post_init__(self) -> None:
        if not self.to.spiffe_id:
            raise _bad(f"the way to {self.to.name} names no SPIFFE ID", "set Upstream.spiffe_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """A collector of spans (OTLP over HTTP) and how many of a hundred requests it is told of. `ca`: PEM; empty: no
    TLS. `ca_file`: where that was read, for programs that want a file."""

    host: str
    port: int = 4318
    path: str = ""
    percent: int = 100
    ca: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", self.host) or not re.fullmatch(r"(/[A-Za-z0-9._-]+)*", self.path):
            raise _bad("the collector's address is none", "name a host, a port, perhaps a path")

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ca else 'http'}://{host}:{self.port}{self.path}/v1/traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSettings:
    """`run_dir` is a directory of this Envoy's own, for `admin.sock` and `metrics.sock`."""

    name: str
    spiffe_id: str
    run_dir: str
    certificates: Certificates
    ingress: Ingress | None = None
    egress: tuple[Egress, ...] = ()
    limits: Limits = field(default_factory=Limits)
    tracing: Tracing | None = None
    unsafe_disabled: frozenset[Control] = frozenset()

    def __post_init__(self) -> None:
        _check(self)
        names = [way.to.name for way in self.egress]
        if len(set(names)) != len(names):
            raise _bad(f"{self.name} has two ways to the same service", "declare each target in `calls` once")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """`routes` name upstreams; the longest prefix wins. What matches none is answered 404 `no_route`. At `mtls_listen`
    clients are asked for a certificate, whosever; all else is as at `listen`."""

    spiffe_id: str
    run_dir: str
    listen: Address
    certificates: Certificates
    pdp_socket: str
    tokens: Tokens
    upstreams: tuple[Upstream, ...]
    routes: tuple[Route, ...]
    name: str = "gateway"
    mtls_listen: Address | None = None
    limits: Limits = field(default_factory=Limits)
    tracing: Tracing | None = None
    unsafe_disabled: frozenset[Control] = frozenset()

    def __post_init__(self) -> None:
        _check(self)
        Address(path=self.pdp_socket)
        names = [upstream.name for upstream in self.upstreams]
        prefixes = [route.prefix for route in self.routes]
        if len(set(names)) != len(names):
            raise _bad("two upstreams have one name", "name each service once")
        if len(set(prefixes)) != len(prefixes):
            raise _bad("two routes have one prefix", "give each prefix to one service")
        if missing := {route.upstream for route in self.routes} - set(names):
            raise _bad(f"routes lead to {sorted(missing)}, which no upstream is named", "add the upstream")


Settings = GatewaySettings | SidecarSettings


def _check(settings: Settings) -> None:
    if not _NAME.fullmatch(settings.name):
        raise _bad(f"{settings.name!r} can't name an Envoy", "use lower-case letters, digits, - and _")
    SpiffeId.parse(settings.spiffe_id)
    Address(path=f"{settings.run_dir}/metrics.sock")
