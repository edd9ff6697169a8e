"""SCIM Groups are roles: every account is in exactly one. Membership is a role change, with its rules and its record.

Whoever is added to a group leaves the one they were in; whoever is removed falls back to `user`. Groups themselves are
declared in rempart.toml.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from rempart.kernel.errors import Conflict, Denied, NotFound

from ...accounts import Accounts, Actor
from . import filters
from .patches import apply
from .queries import Query
from .refusals import ScimRefusal
from .user_document import ScimStore, version_of
from .users import NEW_ROLE, expect

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
MAX_MEMBERS = 5000
_MULTIVALUED = frozenset({"members"})
_ONE = re.compile(r'members\[value eq "([A-Za-z0-9_-]{1,64})"\]', re.IGNORECASE)


class ScimGroups:
    """`base` is the address of the SCIM service."""

    def __init__(self, accounts: Accounts, store: ScimStore, base: str) -> None:
        self._accounts, self._store, self._base = accounts, store, base
        self._turn = asyncio.Lock()  # who writes reads first, and a person who joins one group leaves another

    async def get(self, role: str, query: Query) -> dict[str, Any]:
        """Raises NotFound `no_such_group`."""
        return query.project(await self._document(role, "members" not in query.excluded))

    async def search(self, query: Query) -> dict[str, Any]:
        """Members are told where they are asked for."""
        asked = {path.partition(".")[0] for path in query.attributes} | set(_attributes(query.tree))
        documents = [await self._document(role, "members" in asked) for role in self._accounts.roles.all]
        return query.answer([d for d in documents if query.tree is None or filters.matches(d, query.tree)])

    async def create(self, body: Any) -> None:
        """Always refused: Conflict `group_exists` or Denied `groups_are_declared`."""
        name = body.get("displayName") if isinstance(body, dict) else None
        if name in self._accounts.roles.all:
            raise Conflict("group_exists", "there is this group already")
        raise groups_are_declared()

    async def replace(self, role: str, body: Any, expected: str | None, actor: Actor) -> dict[str, Any]:
        """The group has these members and no others. `expected`: `If-Match`."""
        async with self._turn:
            return await self._settle(await self._expected(role, expected), body, actor)

    async def patch(self, role: str, body: Any, expected: str | None, actor: Actor) -> dict[str, Any]:
        """Adding and removing named members works however many there are."""
        named = _named(body) if not expected else None
        async with self._turn:
            document = await (self._expected(role, expected) if named is None else self._document(role, only=named))
            return await self._settle(document, apply(document, body, _MULTIVALUED), actor)

    async def _settle(self, before: dict[str, Any], wanted: Any, actor: Actor) -> dict[str, Any]:
        role = str(before["id"])
        if not isinstance(wanted, dict) or str(_get(wanted, "displayname") or role) != role:
            raise ScimRefusal("mutability", "a group's name is declared in rempart.toml")
        present = {member["value"] for member in before.get("members", ())}
        asked = _members(wanted)
        removed = present - asked
        if removed and role == NEW_ROLE:
            raise ScimRefusal("mutability", f"who is only in {NEW_ROLE} leaves it by being added to another group")
        for account_id in sorted(asked - present):  # checked whole before anything is changed
            if (account := await self._accounts.peek(account_id)) is None or account.erased:
                raise ScimRefusal("invalidValue", "a member is no user")
        for account_id in sorted(asked - present):
            await self._accounts.change(account_id, {"role": role}, actor)
        for account_id in sorted(removed):
            account = await self._accounts.peek(account_id)
            if account is not None and account.role == role:
                await self._accounts.change(account_id, {"role": NEW_ROLE}, actor)
        crowded = len(await self._store.members(role, MAX_MEMBERS + 1)) > MAX_MEMBERS
        return await self._document(role, not crowded)

    async def _expected(self, role: str, expected: str | None) -> dict[str, Any]:
        document = await self._document(role, True)
        expect(document["meta"]["version"], expected)
        return document

    async def _document(self, role: str, members: bool = True, only: set[str] | None = None) -> dict[str, Any]:
        """`only`: of the members those."""
        if role not in self._accounts.roles.all:
            raise NotFound("no_such_group", "there is no such group")
        document: dict[str, Any] = {"schemas": [GROUP], "id": role, "displayName": role}
        meta = {"resourceType": "Group", "location": f"{self._base}/Groups/{role}"}
        if members:
            if only is None:
                found = await self._store.members(role, MAX_MEMBERS + 1)
            else:
                accounts = [await self._accounts.peek(account_id) for account_id in sorted(only)]
                found = [(a.id, a.email) for a in accounts if a is not None and a.role == role and not a.erased]
            if len(found) > MAX_MEMBERS:
                raise ScimRefusal("tooMany", f"this group has more than {MAX_MEMBERS} members: see Users by filter")
            document["members"] = [
                {"value": member, "display": email, "type": "User", "$ref": f"{self._base}/Users/{member}"}
                for member, email in found
            ]
            meta["version"] = version_of(document)
        return {**document, "meta": meta}


def groups_are_declared() -> Denied:
    return Denied("groups_are_declared", "groups are declared in rempart.toml", "see [people.roles]")


def _named(body: Any) -> set[str] | None:
    """The members that a patch can touch, when it names them all; None when it may touch others, too."""
    named: set[str] = set()
    operations = _get(body, "operations") if isinstance(body, dict) else None
    for operation in operations if isinstance(operations, list) else [None]:
        if not isinstance(operation, dict) or not isinstance(path := _get(operation, "path"), str):
            return None
        verb, value = str(_get(operation, "op")).lower(), _get(operation, "value")
        if verb == "remove" and (chosen := _ONE.fullmatch(path.strip())):
            named.add(chosen[1])
        elif verb in ("add", "remove") and path.strip().lower() == "members" and value:
            listed = value if isinstance(value, list) else [value]
            if not all(isinstance(entry, dict) and isinstance(_get(entry, "value"), str) for entry in listed):
                return None
            named.update(str(_get(entry, "value")) for entry in listed)
        else:
            return None
    return named if len(named) <= MAX_MEMBERS else None


def _members(body: dict[str, Any]) -> set[str]:
    listed = _get(body, "members") or []
    if not isinstance(listed, list) or len(listed) > MAX_MEMBERS:
        raise ScimRefusal("invalidValue", f"members is not a list of at most {MAX_MEMBERS}")
    found = set()
    for entry in listed:
        value = _get(entry, "value") if isinstance(entry, dict) else None
        if not isinstance(value, str):
            raise ScimRefusal("invalidValue", "a member has no value")
        found.add(value)
    return found


def _get(holder: dict[str, Any], name: str) -> Any:
    return next((value for key, value in holder.items() if key.lower() == name), None)


def _attributes(tree: filters.Filter | None) -> list[str]:
    """The attributes that a filter looks at."""
    if tree is None:
        return []
    if isinstance(tree, filters.All | filters.Some):
        return [name for part in tree.parts for name in _attributes(part)]
    if isinstance(tree, filters.Not):
        return _attributes(tree.inner)
    return [tree.path.partition(".")[0]]
