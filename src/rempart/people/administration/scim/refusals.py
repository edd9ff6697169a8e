"""Refusals in SCIM's words (RFC 7644 section 3.12)."""

from __future__ import annotations

from typing import Any

from rempart.kernel.errors import BadInput, RempartError

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
_UNIQUENESS = frozenset({"email_taken", "user_name_taken", "group_exists"})


class ScimRefusal(BadInput):
    """`scim_type` is one of RFC 7644 table 9: invalidFilter, invalidPath, noTarget, invalidValue, mutability, …"""

    def __init__(self, scim_type: str, reason: str) -> None:
        super().__init__("scim_" + "".join("_" + c.lower() if c.isupper() else c for c in scim_type), reason)
        self.scim_type = scim_type


def check_schema(body: Any, schema: str) -> None:
    """Raises ScimRefusal `invalidSyntax` unless the body is an object that names the schema."""
    named = body.get("schemas") if isinstance(body, dict) else None
    if not isinstance(named, list) or schema not in named:
        raise ScimRefusal("invalidSyntax", f"the body is not a {schema}")


class NotAsExpected(RempartError):
    """The resource is at another version than `If-Match` says."""

    status = 412


class NotOffered(RempartError):
    status = 501


def error_document(error: RempartError) -> dict[str, Any]:
    document: dict[str, Any] = {"schemas": [ERROR], "status": str(error.status), "detail": error.reason}
    if isinstance(error, ScimRefusal):
        document["scimType"] = error.scim_type
    elif error.code in _UNIQUENESS:
        document["scimType"] = "uniqueness"
    elif error.status == 400:
        document["scimType"] = "invalidSyntax" if error.code in ("bad_json", "bad_body") else "invalidValue"
    return document
