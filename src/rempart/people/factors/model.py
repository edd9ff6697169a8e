"""What is said about second factors: frozen values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..model import Account, Authenticated


class Factor(StrEnum):
    """What a person can prove themselves with beside the password. A passkey also serves without one."""

    TOTP = "totp"
    BACKUP_CODE = "backup_code"
    PASSKEY = "passkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactorNeeded:
    """The first proof was right and isn't enough.

    `ticket` is opaque, sealed, good for ten minutes and for `Factors.prove` only. `factors`: what the person has; none
    when their role demands a factor that they have yet to set up (the ticket serves for that, too).
    """

    ticket: str = field(repr=False)
    factors: tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class OneTimeCode:
    """As typed: six digits of an app, or a backup code; spaces and hyphens don't matter."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PasskeyAnswer:
    """What the browser's `PublicKeyCredential.toJSON()` gives (WebAuthn Level 3 section 5.1)."""

    response: Mapping[str, Any] = field(repr=False)


Proof = OneTimeCode | PasskeyAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A registered key. `public_key` is COSE; `synced`: it may be copied to other devices of its owner."""

    id: str
    account_id: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    counter: int
    synced: bool
    name: str
    transports: tuple[str, ...]
    created_at: float
    last_used_at: float | None = None

    def public(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "synced": self.synced,
            "created_at": self.created_at,
            "last_used_at": self.last_used_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What an account has beside its password hash and TOTP secret.

    `short_password`: the password is one that serves with a second factor only.
    """

    passkeys: tuple[Passkey, ...]
    backup_codes: int
    short_password: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one transaction changes of an account's credentials; what is None stays.

    `totp`: the sealed secret and the step of the code that confirmed it; `backup_codes`: hashes in place of all old.
    """

    totp: tuple[bytes, int] | None = field(default=None, repr=False)
    remove_totp: bool = False
    add_passkey: Passkey | None = None
    remove_passkey: str | None = None
    remove_all_passkeys: bool = False
    backup_codes: tuple[bytes, ...] | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    short_password: bool | None = None


REMOVE_ALL = Change(remove_totp=True, remove_all_passkeys=True, backup_codes=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody signed in, as their session or ticket proves. `session` is its id, "" for a ticket."""

    account: Account
    session: str
    amr: tuple[str, ...]
    auth_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpSetup:
    """A secret that counts once a code of it confirms it: as base 32, as otpauth URI and as QR code of that."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)
    svg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Credentials changed and all that was signed in has ended: `authenticated` opens what goes on.

    `backup_codes` are new ones, shown once, stored nowhere.
    """

    authenticated: Authenticated
    backup_codes: tuple[str, ...] = field(default=(), repr=False)
