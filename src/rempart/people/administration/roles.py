"""Roles: the built-in ones and the application's own, with their permissions and whom they may administer.

They are declared in rempart.toml (`[people.roles.NAME]`), beside the policy that gives them their meaning, so both are
reviewed, tested and put in force together, and nobody can make themselves a stronger role while the system runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rempart.kernel.errors import BadInput, Denied
from rempart.kernel.principal import Role

EVERY = "*"


@dataclass(frozen=True, slots=True)
class RoleRules:
    """`permissions` are words for policies. `manages`: roles that it may give, and whose holders it may change.

    `*` in `manages` is every role; only `admin` has it.
    """

    permissions: tuple[str, ...] = ()
    manages: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        return {"permissions": list(self.permissions), "manages": list(self.manages)}


def complete(declared: Mapping[str, RoleRules]) -> dict[str, RoleRules]:
    """The declared roles beside the built-in ones. Declaring a built-in one gives it permissions."""
    roles = {str(role): RoleRules() for role in Role} | dict(declared)
    roles[Role.ADMIN] = RoleRules(roles[Role.ADMIN].permissions, (EVERY,))
    return roles


def faults(declared: Mapping[str, RoleRules]) -> list[tuple[str, str]]:
    """What is wrong with them: role and reason. Who manages can't make others that manage: no way up by a straw man."""
    roles = complete(declared)
    found = []
    for name, rules in declared.items():
        for managed in rules.manages:
            if managed not in roles:
                found.append((name, f"it manages {managed[:40]!r}, which is no role"))
            elif name != Role.ADMIN and (managed == Role.ADMIN or roles[managed].manages):
                found.append((name, f"it manages {managed[:40]!r}, which manages others itself: only admin may"))
    return found


class Roles:
    def __init__(self, declared: Mapping[str, RoleRules]) -> None:
        """Raises BadInput `bad_settings`."""
        if wrong := faults(declared):
            raise BadInput("bad_settings", "; ".join(f"role {name}: {why}" for name, why in wrong))
        self.all: Mapping[str, RoleRules] = complete(declared)

    def check(self, role: str) -> str:
        """Raises BadInput `bad_role` for a role that is not declared."""
        if role not in self.all:
            raise BadInput("bad_role", f"{role[:40]!r} is not a role", "use one of " + ", ".join(self.all))
        return role

    def manages(self, role: str, *others: str) -> bool:
        """Whether a holder of `role` may administer those of all `others` (or somebody, when none is named)."""
        mine = self.all.get(role, RoleRules()).manages
        return bool(mine) and (EVERY in mine or all(other in mine for other in others))

    def require(self, role: str, *others: str) -> None:
        """Raises Denied `not_an_administrator` or `role_out_of_reach`."""
        if not self.manages(role):
            raise Denied("not_an_administrator", "only administrators may do this", "ask one of them")
        if not self.manages(role, *others):
            raise Denied(
                "role_out_of_reach", "your role does not administer accounts of this role", "ask an administrator"
            )
