"""What identity is about: selectors, registration entries, what is known of a caller, SVIDs, the trust bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId

if TYPE_CHECKING:  # settings are checked against selectors in processes that have no keys
    from rempart.crypto.x509 import Certificate, EcKey

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
_NAME = re.compile(r"[A-Za-z0-9_.@:\\-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"/[^\x00-\x1f]{0,4094}")
_SUPERVISED = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")

# type → kind → what a value looks like. A selector of another kind could never match, so it is refused when written.
KINDS: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    "unix": {
        "uid": _NUMBER,
        "gid": _NUMBER,
        "user": _NAME,
        "group": _NAME,
        "supplementary_gid": _NUMBER,
        "supplementary_group": _NAME,
        "path": _PATH,
        "sha256": _SHA256,
        "cgroup": _PATH,
    },
    "systemd": {"id": _NAME, "fragment_path": _PATH},
    "docker": dict.fromkeys(("label", "env", "image_id", "image_config_digest"), _TEXT),
    "k8s": dict.fromkeys(
        (
            *("ns", "sa", "node-name", "pod-name", "pod-uid", "pod-label", "pod-owner", "pod-owner-uid", "pod-image"),
            *("pod-image-count", "pod-init-image", "pod-init-image-count", "container-name", "container-image"),
        ),
        _TEXT,
    ),
    "supervisor": dict.fromkeys(("service", "sidecar", "client", "system"), _SUPERVISED),
    # Of agents, as SPIRE names them: for node aliases.
    "spiffe_id": {"spiffe": _TEXT},
    "x509pop": {"ca": _TEXT, "subject": _TEXT},
    "k8s_psat": dict.fromkeys(
        (
            *("cluster", "agent_ns", "agent_sa", "agent_pod_name", "agent_pod_uid"),
            *("agent_node_name", "agent_node_uid"),
        ),
        _TEXT,
    ),
}
OF_AGENTS = frozenset(("spiffe_id", "x509pop", "k8s_psat"))
"""Types of selectors that agents have, and no process."""


class Selector(msgspec.Struct, frozen=True, order=True, gc=False):
    """One fact about a process, `type:kind:value` as SPIRE writes it: `unix:uid:1000`, `supervisor:service:wallet`.

    A struct, since it is hashed for every answer."""

    type: str
    kind: str
    value: str

    @staticmethod
    def parse(text: str) -> Selector:
        """Raises BadInput `bad_selector`."""
        type_, _, rest = text.partition(":")
        kind, _, value = rest.partition(":")
        pattern = KINDS.get(type_, {}).get(kind)
        if pattern is None:
            known = ", ".join(f"{t}:{k}" for t, kinds in KINDS.items() for k in kinds)
            raise BadInput("bad_selector", f"{text[:200]!r} is not a selector that Rempart knows", f"known: {known}")
        if not pattern.fullmatch(value):
            raise BadInput("bad_selector", f"{text[:200]!r} has a value that no process could have")
        return Selector(type_, kind, value)

    def __str__(self) -> str:
        return f"{self.type}:{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who has all `selectors` is `spiffe_id`. `ttl` (X.509) and `jwt_ttl` in seconds, 0 for the default. `fixed` ones
    come from `rempart.toml` and can't be changed while the system runs. `expires_at` in seconds since the epoch.

    `federates_with`: trust domains whose bundles its holder is given. `admin`: its holder may administer entries.
    `downstream`: it is for a server of the same trust domain, which signs by itself.
    """

    id: str
    spiffe_id: SpiffeId
    selectors: frozenset[Selector]
    parent_id: str = ""
    ttl: int = 0
    jwt_ttl: int = 0
    dns_names: tuple[str, ...] = ()
    federates_with: tuple[str, ...] = ()
    admin: bool = False
    downstream: bool = False
    hint: str = ""
    expires_at: float | None = None
    fixed: bool = False

    def matches(self, facts: frozenset[Selector], now: float) -> bool:
        return self.selectors <= facts and (self.expires_at is None or now < self.expires_at)

    @property
    def registration(self) -> tuple[SpiffeId, str, frozenset[Selector]]:
        """What makes two entries the same registration, as in SPIRE: SPIFFE ID, parent and selectors."""
        return self.spiffe_id, self.parent_id, self.selectors

    def same_as(self, other: Entry) -> bool:
        """The same registration, whatever it is called."""
        return replace(self, id=other.id) == other

    def document(self) -> dict[str, Any]:
        """As the admin API and the audit trail show it."""
        return {
            "id": self.id,
            "spiffe_id": str(self.spiffe_id),
            "parent_id": self.parent_id,
            "selectors": sorted(map(str, self.selectors)),
            "ttl": self.ttl,
            "jwt_ttl": self.jwt_ttl,
            "dns_names": list(self.dns_names),
            "federates_with": list(self.federates_with),
            "admin": self.admin,
            "downstream": self.downstream,
            "hint": self.hint,
            "expires_at": self.expires_at,
            "fixed": self.fixed,
        }


@dataclass(frozen=True, slots=True)
class Told:
    """What the supervisor says of a process. `start_time` is field 22 of its /proc/PID/stat.

    `name` is empty unless the supervisor started it or an ancestor of it; then `kind` is service, sidecar, client or
    system. `program` is device and inode of its executable, `path` and `sha256` what that is; None: can't be told.
    """

    name: str
    kind: str
    start_time: int
    program: tuple[int, int] | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ToldRoots:
    """What the supervisor says of an authority's roots. `signing` is a fingerprint; `rotation` is for display."""

    roots: tuple[Certificate, ...]
    signing: str
    rotation: dict[str, object]


@dataclass(frozen=True, slots=True)
class Facts:
    """What attestation found out of one process. `description` is for the record: pid, uid, exe, unit."""

    pid: int
    uid: int
    start_time: int
    selectors: frozenset[Selector]
    description: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class X509Svid:
    """`chain` is the leaf, then its issuing CA. The private key lives here and nowhere else."""

    spiffe_id: SpiffeId | None
    hint: str
    chain: tuple[Certificate, ...]
    key: EcKey = field(repr=False)
    key_der: bytes = field(init=False, repr=False)
    """PKCS#8, made once: every answer holds it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_der", self.key.to_der())

    @property
    def leaf(self) -> Certificate:
        return self.chain[0]

    def rotate_at(self, signed_at: float) -> float:
        return signed_at + (self.leaf.not_after - signed_at) / 2


@dataclass(frozen=True, slots=True)
class JwtSvid:
    spiffe_id: SpiffeId
    hint: str
    token: str = field(repr=False)
    token_id: str
    issued_at: float
    expires_at: float
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class JwtDraft:
    """A JWT-SVID about which everything is settled but its signature."""

    spiffe_id: SpiffeId
    hint: str
    token_id: str
    issued_at: float
    expires_at: float
    key_id: str
    sign: Callable[[], str] = field(repr=False)

    def signed(self) -> JwtSvid:
        return JwtSvid(
            self.spiffe_id, self.hint, self.sign(), self.token_id, self.issued_at, self.expires_at, self.key_id
        )


class PublishedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jwk` is public; tokens signed by it may be about until `until` (seconds since the epoch)."""

    jwk: dict[str, str]
    until: float


@dataclass(frozen=True, slots=True)
class Authorities:
    """Public keys that others of the same trust domain vouch with: its other servers, and systems that it moves away
    from; `adopted` are the ids of the JWT keys of those."""

    roots: tuple[Certificate, ...] = ()
    keys: tuple[Mapping[str, Any], ...] = ()
    adopted: frozenset[str] = frozenset()


class Adopted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Authorities of another system of the same trust domain, trusted `until` then (seconds since the epoch). `roots`
    are PEM."""

    roots: list[str]
    keys: list[dict[str, str]]
    until: float


@dataclass(frozen=True, slots=True)
class EntryChanges:
    """`put` is new or different; `kept` are all ids that are there."""

    revision: int
    put: tuple[Entry, ...]
    kept: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow:
    """One server of the trust domain, as all of them see it.

    `incarnation` is another one after each start. `beat` counts up while it lives; 0 when it ended in good order.
    `seen` is the bundle sequence that its workloads were told; `at` its clock (seconds since the epoch). `sealed` is
    what it publishes.
    """

    id: str
    incarnation: str
    beat: int
    seen: int
    at: float
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ServerRows:
    """`sequence` of the bundle that `rows` make."""

    sequence: int
    rows: tuple[ServerRow, ...]


REFRESH_HINT = 300
"""Seconds after which whoever fetched a bundle should fetch it again, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The trust domain's public keys. `sequence` grows with every change and never goes back, over restarts too."""

    trust_domain: str
    roots: tuple[Certificate, ...]
    jwt_keys: tuple[Mapping[str, Any], ...]
    sequence: int
    refresh_hint: int = REFRESH_HINT

    @property
    def id(self) -> str:
        return f"spiffe://{self.trust_domain}"
