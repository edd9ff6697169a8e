"""What this service is and can do (RFC 7643 sections 5 to 7, RFC 7644 section 4)."""

from __future__ import annotations

from typing import Any

from .groups import GROUP
from .queries import MAX_RESULTS
from .user_document import NAMES, USER

CONFIG = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
RESOURCE_TYPE = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:Schema"


def provider_config(base: str) -> dict[str, Any]:
    return {
        "schemas": [CONFIG],
        "documentationUri": "https://datatracker.ietf.org/doc/html/rfc7644",
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": MAX_RESULTS},
        "changePassword": {"supported": True},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "OAuth 2.0",
                "description": "An access token of a client, by client credentials, with scope scim",
                "specUri": "https://datatracker.ietf.org/doc/html/rfc6750",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }


def resource_types(base: str) -> list[dict[str, Any]]:
    return [
        {
            "schemas": [RESOURCE_TYPE],
            "id": name,
            "name": name,
            "endpoint": f"/{name}s",
            "description": about,
            "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{name}"},
        }
        for name, schema, about in (("User", USER, "People with an account"), ("Group", GROUP, "Roles"))
    ]


def schemas(base: str) -> list[dict[str, Any]]:
    documents = [
        (
            USER,
            "User",
            "People with an account",
            [
                _text("userName", "Unique, whatever its case", required=True, uniqueness="server"),
                _complex("name", "What the person is called", [_text(name, name) for name in NAMES]),
                _text("displayName", "What the account is called"),
                _attribute("active", "boolean", "False refuses the person and ends their sessions", required=True),
                _text("password", "Never returned", mutability="writeOnly", returned="never"),
                _complex(
                    "emails",
                    "One address is kept: the primary one, else the first",
                    [
                        _text("value", "The address", required=True),
                        _text("type", "What it is for", canonicalValues=["work", "home", "other"]),
                        _attribute("primary", "boolean", "Whether it is the one that is kept"),
                    ],
                    multi=True,
                    required=True,
                ),
                _complex(
                    "groups",
                    "The person's role, changed by way of Groups",
                    [
                        _text("value", "The role", mutability="readOnly"),
                        _reference("$ref", "Its address", ["Group"], mutability="readOnly"),
                        _text("display", "The role", mutability="readOnly"),
                        _text("type", "direct", mutability="readOnly"),
                    ],
                    multi=True,
                    mutability="readOnly",
                ),
            ],
        ),
        (
            GROUP,
            "Group",
            "Roles: every account is in exactly one",
            [
                _text("displayName", "The role", required=True, mutability="immutable", uniqueness="server"),
                _complex(
                    "members",
                    "Accounts of this role; in lists only where asked for",
                    [
                        _text("value", "The user's id", mutability="immutable"),
                        _reference("$ref", "The user's address", ["User"], mutability="immutable"),
                        _text("display", "The user's e-mail address", mutability="readOnly"),
                        _text("type", "User", mutability="immutable"),
                    ],
                    multi=True,
                ),
            ],
        ),
    ]
    return [
        {
            "schemas": [SCHEMA],
            "id": schema,
            "name": name,
            "description": about,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{schema}"},
        }
        for schema, name, about, attributes in documents
    ]


def _attribute(name: str, kind: str, about: str, *, multi: bool = False, **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "multiValued": multi,
        "description": about,
        "required": False,
        "mutability": "readWrite",
        "returned": "default",
        **({"caseExact": False, "uniqueness": "none"} if kind in ("string", "reference") else {}),
        **other,
    }


def _text(name: str, about: str, **other: Any) -> dict[str, Any]:
    return _attribute(name, "string", about, **other)


def _reference(name: str, about: str, types: list[str], **other: Any) -> dict[str, Any]:
    return _attribute(name, "reference", about, referenceTypes=types, **{"caseExact": True, **other})


def _complex(
    name: str, about: str, below: list[dict[str, Any]], *, multi: bool = False, **other: Any
) -> dict[str, Any]:
    return _attribute(name, "complex", about, multi=multi, subAttributes=below, **other)
