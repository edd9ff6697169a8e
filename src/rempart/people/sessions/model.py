"""What a session is: somebody who proved who they are, on one browser or tool, until it is idle or old."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    WEB = "web"
    API = "api"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: `idle` since it was last seen, `absolute` since the person last proved who they are."""

    idle: float
    absolute: float


# NIST SP 800-63B-4 section 2.2.3: at AAL2 an hour of inactivity, 24 hours in all. A tool on somebody's own machine
# holds its session in a file of theirs and gets longer.
LIMITS = {
    Kind.WEB: Limits(idle=3600, absolute=24 * 3600),
    Kind.API: Limits(idle=3600, absolute=24 * 3600),
    Kind.CLI: Limits(idle=24 * 3600, absolute=7 * 86400),
}


KEEP = 100  # living ones per account
GRANTS = 50  # living families of refresh tokens per account


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`id` is public: the `sid` of tokens. It stays when privilege rises, what the client holds does not.

    `key` is the thumbprint (RFC 7638) of the key that must be proved with each use, None where the client has none. A
    browser's is `device_key` in full (a JWK as JSON), of its device, since `bound_at`: proved every few minutes.
    `network`, `user_agent` and `locale` are those of the last proof of identity. `ends_at` is the nearer of the idle
    and the absolute end. Times in seconds since the epoch.
    """

    id: str
    account_id: str
    kind: Kind
    epoch: int
    amr: tuple[str, ...]
    auth_time: float
    key: str | None
    network: str
    user_agent: str
    locale: str
    created_at: float
    seen_at: float
    ends_at: float
    device_key: str = field(default="", repr=False)
    bound_at: float = 0.0

    def public(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": str(self.kind),
            "amr": list(self.amr),
            "auth_time": self.auth_time,
            "bound_to_key": self.key is not None,
            "network": self.network,
            "user_agent": self.user_agent,
            "created_at": self.created_at,
            "seen_at": self.seen_at,
            "ends_at": self.ends_at,
        }


@dataclass(frozen=True, slots=True)
class Opened:
    """`token` is the opaque 256-bit id that the client holds; it is told once and kept nowhere."""

    token: str = field(repr=False)
    session: Session


@dataclass(frozen=True, slots=True)
class Doubted:
    """The token is right and comes from elsewhere: ask for authentication again, then raise its privilege."""

    session: Session
    signals: tuple[str, ...]
    score: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A session as stores keep it: found by the SHA-256 of its token; `sealed` holds all that is the person's."""

    token_hash: bytes = field(repr=False)
    id: str
    account_id: str
    created_at: float
    seen_at: float
    ends_at: float
    sealed: bytes = field(repr=False)
