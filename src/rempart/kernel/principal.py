"""Who asks: a person with an account, or a workload with a SPIFFE ID."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .spiffe import SpiffeId


class Role(StrEnum):
    """The built-in roles of a person (requirement P4)."""

    USER = "user"
    ADMIN = "admin"
    FINANCE = "finance"
    AUDIT = "audit"
    DEVOPS = "devops"
    CUSTOMER = "customer"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Person:
    """`subject` is the token's `sub`: opaque, stable, and never an e-mail address."""

    subject: str
    role: str


@dataclass(frozen=True, slots=True)
class Workload:
    spiffe_id: SpiffeId


Principal = Person | Workload
