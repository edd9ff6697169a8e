"""`[people.roles.NAME]` of rempart.toml: `permissions` and `manages` of the application's own roles."""

from __future__ import annotations

import re

from rempart.people.administration.roles import RoleRules, faults

from .check import Reader

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_PERMISSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,79}")
MOST = 200  # roles, and permissions of one


def read_roles(roles: Reader) -> dict[str, RoleRules]:
    """`roles` is the reader of the table `people.roles`."""
    declared = {}
    for name in roles.content:
        reader = roles.table(name)
        if not _ROLE.fullmatch(name) or len(roles.content) > MOST:
            roles.refuse(name, f"{name[:80]!r} can't be a role", "use lower-case letters, digits, - and _, at most 40")
        permissions = reader.words("permissions")
        if len(permissions) > MOST or not all(_PERMISSION.fullmatch(permission) for permission in permissions):
            reader.refuse("permissions", "a permission is a word such as payments:create", f"at most {MOST} of them")
        declared[name] = RoleRules(permissions, reader.words("manages"))
        reader.no_more()
    for name, why in faults(declared):
        roles.refuse(name, f"role {name!r}: {why}", "only `admin` manages those who manage")
    return declared
