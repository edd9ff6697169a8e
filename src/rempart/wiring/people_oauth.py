"""What `[people]` of rempart.toml says of OAuth, beside the security profile."""

from __future__ import annotations

from .check import Reader

OFF, INVITED = "off", "invited"


def read_registration(people: Reader) -> str:
    """Whether clients may register themselves (RFC 7591): never, or with an initial access token of the operator's."""
    registration = people.text("client_registration", default=OFF)
    if registration not in (OFF, INVITED):
        people.refuse("client_registration", f"{registration[:40]!r} is none of them", f"use {OFF} or {INVITED}")
    return registration
