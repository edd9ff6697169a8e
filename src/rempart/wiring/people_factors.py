"""What `[people]` of rempart.toml says of passwords and second factors."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rempart.people.administration.roles import RoleRules, complete

from .check import Reader


class FactorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lengths in characters: of a password alone, and of one beside a second factor (what is shorter than the first
    serves beside one only). `password_pepper`: its version, 0 for none. `require_mfa_roles`: whose people must have a
    second factor.
    """

    password_length: int = 15
    password_length_with_factor: int = 8
    password_pepper: int = 0
    require_mfa_roles: tuple[str, ...] = ()


def read_factors(people: Reader, roles: Mapping[str, RoleRules]) -> FactorSettings:
    required = people.words("require_mfa_roles")
    for role in required:
        if role not in complete(roles):
            people.refuse(
                "require_mfa_roles", f"require_mfa_roles: {role[:40]!r} is no role", "see [people.roles.NAME]"
            )
    return FactorSettings(
        password_length=people.number("password_length", 15, at_least=8, at_most=64),
        password_length_with_factor=people.number("password_length_with_factor", 8, at_least=8, at_most=64),
        password_pepper=people.number("password_pepper", 0, at_least=0, at_most=9999),
        require_mfa_roles=required,
    )
