"""What pages show and what their rooms answer: frozen values only. Times are seconds since the epoch of Unix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """The session behind a browser's cookie, and whose it is. `token` is what the cookie holds."""

    token: str = field(repr=False)
    session_id: str
    account_id: str
    name: str
    email: str
    role: str
    amr: tuple[str, ...]
    auth_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """Somebody proved who they are: `token` is their browser's new session, `device` its next known-device cookie."""

    token: str = field(repr=False)
    device: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A change of what proves a person: this browser's new session, and backup codes that are shown now or never."""

    entered: Entered
    backup_codes: Sequence[str] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfDone:
    """The first step is done and a factor is demanded; `step` is what the browser holds meanwhile."""

    step: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorChoice:
    """What a half-done sign-in may go on with; with neither, a first factor is to be set up.

    `options`: what `navigator.credentials.get` takes for the passkeys, None without any.
    """

    code: bool
    options: dict[str, Any] | None = None


class Next(StrEnum):
    """What a person must do next for a request that waits."""

    SIGN_IN = "sign_in"
    STEP_UP = "step_up"
    SELECT_ACCOUNT = "select_account"
    CONSENT = "consent"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An authorization request that waits for its person; `acr` is what it demands, "" for nothing special.

    `redirect_source` is where the browser goes afterwards as a CSP source, such as `https://app.example` or `com.app:`;
    `redirect_host` the same as people read it.
    """

    client_name: str
    scopes: Sequence[str]
    next: Next
    acr: str = ""
    redirect_host: str = ""
    redirect_source: str = ""
    login_hint: str = ""
    locale: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWaiting:
    """A device that waits for its person's word."""

    user_code: str
    client_name: str
    scopes: Sequence[str]
    next: Next
    acr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOutAsked:
    """`client_name` "" when nobody names itself. `asks`: the person must confirm."""

    asks: bool
    client_name: str = ""
    redirect_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkShown:
    """A living reset or invitation link: whose."""

    email: str
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A signed-in browser, program or tool of the person."""

    id: str
    kind: str
    client: str
    user_agent: str
    network: str
    amr: tuple[str, ...]
    opened_at: float
    used_at: float
    current: bool = False
    bound: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    id: str
    name: str
    added_at: float
    used_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    totp: bool
    backup_left: int
    passkeys: Sequence[Passkey]


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpSetup:
    """`secret` in base 32 for typing, `uri` for apps on this device, `svg` the QR code of it."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    svg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of a person's recent activity; `what` is an event type."""

    what: str
    at: float
    success: bool
    network: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """An application that the person let in."""

    client_id: str
    client_name: str
    scopes: Sequence[str]
    since: float
