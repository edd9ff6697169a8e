"""A User as SCIM writes it (RFC 7643 section 4.1), and what is read of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from ...model import Account, normalise_email
from .refusals import ScimRefusal, check_schema

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
NAMES = ("formatted", "familyName", "givenName")
MULTIVALUED = frozenset({"emails"})
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ScimUser:
    """What a provisioning client said of an account beside what the account itself keeps. `at`: when.

    `marks`: `type` and `primary` of the address.
    """

    account_id: str
    user_name: str
    external_id: str | None
    names: Mapping[str, str]
    display_name: str | None
    marks: Mapping[str, Any]
    at: float


class ScimStore(Protocol):
    """Durable; all raise Unavailable `store_unavailable`. User names are unique whatever their case."""

    async def put(self, user: ScimUser) -> None:
        """Raises Conflict `user_name_taken`. Names of erased accounts are free, those of accounts that were never made
        after a minute."""

    async def get(self, account_id: str) -> ScimUser | None: ...

    async def by_user_name(self, user_name: str) -> ScimUser | None: ...

    async def between(self, after: str, last: str) -> dict[str, ScimUser]:
        """By account id, for ids greater than `after` up to `last`."""

    async def remove(self, account_id: str) -> None: ...

    async def forget_erased(self) -> None:
        """Drop what was said of erased accounts."""

    async def members(self, role: str, limit: int) -> list[tuple[str, str]]:
        """Id and e-mail address of enabled and disabled accounts of a role, at most `limit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A User as a client wants it, checked."""

    user_name: str
    external_id: str | None
    names: Mapping[str, str]
    display_name: str | None
    email: str
    marks: Mapping[str, Any]
    active: bool
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What the account is called."""
        full = " ".join(part for part in (self.names.get("givenName"), self.names.get("familyName")) if part)
        return (self.display_name or self.names.get("formatted") or full or self.user_name)[:100]


def read_user(body: Any) -> Wanted:
    """Unknown attributes are ignored. Raises ScimRefusal, BadInput `bad_email`."""
    check_schema(body, USER)
    user_name = _text(body, "userName")
    if not user_name:
        raise ScimRefusal("invalidValue", "userName is missing")
    name = _get(body, "name") or {}
    if not isinstance(name, dict):
        raise ScimRefusal("invalidValue", "name is not an object")
    names = {part: text for part in NAMES if (text := _text(name, part))}
    email, marks = _email(body, user_name)
    return Wanted(
        user_name=user_name,
        external_id=_text(body, "externalId"),
        names=names,
        display_name=_text(body, "displayName"),
        email=email,
        marks=marks,
        active=_active(body),
        password=_text(body, "password"),
    )


def write_user(account: Account, kept: ScimUser | None, base: str) -> dict[str, Any]:
    """`base` is the address of the SCIM service."""
    return with_version(draft_user(account, kept, base))


def draft_user(account: Account, kept: ScimUser | None, base: str) -> dict[str, Any]:
    """Still without its version, which costs most: for the many that a filter passes over."""
    location = f"{base}/Users/{account.id}"
    document: dict[str, Any] = {
        "schemas": [USER],
        "id": account.id,
        "userName": kept.user_name if kept else account.email,
        "active": not account.disabled,
        "emails": [{"value": account.email, **(kept.marks if kept else {"type": "work", "primary": True})}],
        "groups": [
            {"value": account.role, "display": account.role, "type": "direct", "$ref": f"{base}/Groups/{account.role}"}
        ],
    }
    if kept and kept.external_id:
        document["externalId"] = kept.external_id
    if kept is None or kept.display_name:
        document["displayName"] = account.name
    if kept and kept.names:
        document["name"] = dict(kept.names)
    modified = max(account.updated_at, kept.at if kept else 0.0)
    document["meta"] = {
        "resourceType": "User",
        "created": rfc3339(account.created_at),
        "lastModified": rfc3339(modified),
        "location": location,
    }
    return document


def with_version(document: dict[str, Any]) -> dict[str, Any]:
    document["meta"]["version"] = version_of(document)
    return document


def version_of(document: Mapping[str, Any]) -> str:
    """A weak entity tag of the whole (RFC 9110 section 8.8.3)."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return f'W/"{digest[:24]}"'


def _email(body: dict[str, Any], user_name: str) -> tuple[str, dict[str, Any]]:
    """The primary address, else the first, else the user name where that is one; and its marks. Raises ScimRefusal."""
    emails = _get(body, "emails")
    if emails is None:
        emails = []
    if not isinstance(emails, list) or len(emails) > 20 or not all(isinstance(entry, dict) for entry in emails):
        raise ScimRefusal("invalidValue", "emails is not a list of objects")
    given = sorted(emails, key=lambda entry: _get(entry, "primary") is not True)
    chosen = given[0] if given else {"type": "work", "primary": True}
    address, kind, primary = _text(chosen, "value"), _text(chosen, "type"), _get(chosen, "primary")
    if not isinstance(primary, bool | None):
        raise ScimRefusal("invalidValue", "primary is not true or false")
    marks = {name: value for name, value in (("type", kind), ("primary", primary)) if value is not None}
    if address is None and "@" in user_name:
        address = user_name
    if address is None:
        raise ScimRefusal("invalidValue", "an account needs an e-mail address, in emails or as userName")
    try:
        return normalise_email(address), marks
    except BadInput as error:
        raise ScimRefusal("invalidValue", error.reason) from None


def _active(body: dict[str, Any]) -> bool:
    """Some clients write "False"."""
    value = _get(body, "active")
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value is not None and not isinstance(value, bool):
        raise ScimRefusal("invalidValue", "active is not true or false")
    return value is not False


def _text(holder: dict[str, Any], name: str) -> str | None:
    value = _get(holder, name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ScimRefusal("invalidValue", f"{name} is not a text of at most {_LONGEST} printable characters")
    return value


def _get(holder: dict[str, Any], name: str) -> Any:
    wanted = name.lower()
    return next((value for key, value in holder.items() if key.lower() == wanted), None)
