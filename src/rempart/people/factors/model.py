"""What is said about second factors: frozen values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
