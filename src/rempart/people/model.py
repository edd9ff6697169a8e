"""What the people room speaks about: frozen values only."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import Any

from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event

MAX_LIMIT = 10**15  # cents
GONE = "deleted.invalid"  # the mail domain of erased accounts (RFC 2606 section 2): nobody has an address there
FIRST_PARTY = "login"  # RFC 9068's client_id for a person who logged in without an OAuth client
_EMAIL = re.compile(r"(?=.{3,254}\Z)[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
                    r"(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person. `id` is the token's `sub`; `payment_limit` in cents, None for no limit.

    `version` grows with every change (optimistic locking); `epoch` grows when what was granted before must end:
    refresh families and access tokens of an older epoch are dead. `role` is one of `kernel.principal.Role` or the
    application's own. Times in seconds since the epoch of Unix.
    """

    id: str
    email: str
    name: str
    role: str
    payment_limit: int | None
    disabled: bool
    second_factor: bool
    version: int
    epoch: int
    created_at: float
    updated_at: float

    @property
    def erased(self) -> bool:
        return self.email.endswith("@" + GONE)

    def public(self) -> dict[str, Any]:
        """As the interfaces show it and as `before` and `after` of an event."""
        return {
            "id": self.id,
            "email": self.email,
            "display_name": self.name,
            "role": self.role,
            "payment_limit": self.payment_limit,
            "disabled": self.disabled,
            "second_factor": self.second_factor,
            "version": self.version,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves the person: a PHC string, and the sealed TOTP secret where there is one."""

    password_hash: str = field(repr=False)
    totp: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """A person who just proved who they are. `amr` as RFC 8176 names methods (`pwd`, `otp`, `hwk`, `mfa` with two)."""

    account: Account
    amr: tuple[str, ...]
    auth_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFamily:
    """One grant and all refresh tokens that descend from it. `expires_at` is absolute: rotation doesn't move it.

    `client_id` is FIRST_PARTY for a login without an OAuth client. `session_id` names the browser's session behind it,
    "" for none. `audience` empty means the trust domain. `bound_to` shows the key that its tokens are bound to
    (`jkt:…`, `x5t:…`), "" for none. `auth_time` 0 means: when the family began.
    """

    id: str
    account_id: str
    epoch: int
    amr: tuple[str, ...]
    scope: str
    network: str
    user_agent: str
    created_at: float
    last_used_at: float
    expires_at: float
    revoked_at: float | None = None
    revoked_for: str = ""
    client_id: str = FIRST_PARTY
    session_id: str = ""
    audience: tuple[str, ...] = ()
    acr: str = ""
    auth_time: float = 0.0
    bound_to: str = ""

    def public(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "client_id": self.client_id,
            "amr": list(self.amr),
            "scope": self.scope,
            "network": self.network,
            "user_agent": self.user_agent,
            "created_at": self.created_at,
            "last_used_at": self.last_used_at,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
            "revoked_for": self.revoked_for,
        }


@dataclass(frozen=True, slots=True)
class Rotated:
    """The presented token was the current one; its successor is now. `account` as it was in the same transaction."""

    family: RefreshFamily
    account: Account


@dataclass(frozen=True, slots=True)
class Repeated:
    """The presented token was rotated a moment ago and its successor not used yet: the answer may have been lost."""

    family: RefreshFamily
    sealed_successor: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reused:
    """A token that was rotated away came again: somebody has a copy. The family was revoked by this very call."""

    family: RefreshFamily


@dataclass(frozen=True, slots=True)
class Dead:
    """The family is unknown, expired, revoked, or of an account that was disabled or changed."""

    why: str
    family: RefreshFamily | None = None


Rotation = Rotated | Repeated | Reused | Dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request came from, as the sidecar tells it. `network` is what throttling counts by, `locale` the first
    language that the client asks for, `device_proof` the short cookie of a browser that holds its device's key.
    """

    ip: str | None = None
    workload: str | None = None
    operator: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    decision_id: str | None = None
    user_agent: str = ""
    locale: str = ""
    device_proof: str = field(default="", repr=False)

    @property
    def network(self) -> str:
        return network_of(self.ip) if self.ip else (self.workload or "local")

    def stamp(self, event: Event) -> Event:
        """The event with where it came from: what every event of a request says."""
        return replace(
            event,
            workload=self.workload,
            operator=event.operator or self.operator,
            ip=self.ip,
            request_id=self.request_id,
            trace_id=self.trace_id,
            details={**event.details, "decision": self.decision_id},
        )


def network_of(ip: str) -> str:
    """An IPv4 address by itself, an IPv6 address by its /64, which one subscriber owns whole."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def normalise_email(text: str) -> str:
    """One spelling per mailbox: NFKC, lower case; ASCII only, so that no two look alike. BadInput `bad_email`."""
    email = unicodedata.normalize("NFKC", text.strip()[:320]).lower()
    if not _EMAIL.fullmatch(email) or email.endswith("@" + GONE):
        raise BadInput("bad_email", "this is not an e-mail address that can be used", "write name@example.org in ASCII")
    return email


def clean_name(text: str) -> str:
    """A display name: NFC, 1 to 100 printable characters. BadInput `bad_name`."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= 100 or any(
        unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in name
    ):
        raise BadInput("bad_name", "a name has 1 to 100 printable characters")
    return name


def check_limit(cents: int | None) -> int | None:
    """BadInput `bad_payment_limit`."""
    if cents is not None and not 0 <= cents <= MAX_LIMIT:
        raise BadInput("bad_payment_limit", f"a payment limit is 0 to {MAX_LIMIT} cents, or null for none")
    return cents
