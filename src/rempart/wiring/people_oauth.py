"""What rempart.toml says of OAuth in `[people]` and `[tokens]`, beside the security profile."""

from __future__ import annotations

from .check import Reader

OFF, INVITED = "off", "invited"
SIGNING = ("ES256", "RS256", "EdDSA")  # RS256 costs ten times as much to sign


def read_registration(people: Reader) -> str:
    """Whether clients may register themselves (RFC 7591): never, or with an initial access token of the operator's."""
    registration = people.text("client_registration", default=OFF)
    if registration not in (OFF, INVITED):
        people.refuse("client_registration", f"{registration[:40]!r} is none of them", f"use {OFF} or {INVITED}")
    return registration


def read_signing(tokens: Reader) -> str:
    """With what access tokens are signed; a change refuses no token. ID tokens are as their client is registered."""
    algorithm = tokens.text("signing_algorithm", default=SIGNING[0])
    if algorithm not in SIGNING:
        tokens.refuse("signing_algorithm", f"{algorithm[:40]!r} is none of them", "use " + " or ".join(SIGNING))
    return algorithm
