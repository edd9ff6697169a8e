"""Users of a Keycloak realm export (JSON), as accounts to import: their password hashes, TOTP secrets, mapped roles.

A realm's roles mean nothing here until they are mapped by name: nobody becomes administrator by a namesake. Hashes are
kept as they are and verified until the next login makes our own of them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel.errors import BadInput

_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_PBKDF2 = ("pbkdf2-sha256", "pbkdf2-sha512")


@dataclass(frozen=True, slots=True)
class Found:
    """One user of the export: either an account to import, in the words of `imports.NewAccount`, or why not.

    `notes`: what of them could not be brought along.
    """

    name: str
    account: dict[str, Any] | None = field(default=None, repr=False)
    error: str = ""
    notes: tuple[str, ...] = ()


def read_realm(text: str, mapping: Mapping[str, str], default_role: str) -> list[Found]:
    """`mapping`: realm role → role, the first in its order that a user has counts. Raises BadInput `bad_realm`."""
    try:
        realm = json.loads(text)
        users = realm["users"]
        if not isinstance(users, list) or not all(isinstance(user, dict) for user in users):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(
            "bad_realm", "this is not a realm export with users", "export with `kc.sh export --users realm_file`"
        ) from None
    return [_user(user, mapping, default_role) for user in users]


def _user(user: Mapping[str, Any], mapping: Mapping[str, str], default_role: str) -> Found:
    name = str(user.get("username") or user.get("email") or user.get("id") or "?")[:320]
    if user.get("serviceAccountClientId"):
        return Found(name, error="it is a client's service account: register the client instead")
    email = user.get("email") or (name if "@" in name else "")
    if not isinstance(email, str) or not email:
        return Found(name, error="it has no e-mail address")
    roles = user.get("realmRoles")
    held = {str(role) for role in roles} if isinstance(roles, list) else set()
    full = " ".join(str(user[part]) for part in ("firstName", "lastName") if user.get(part))
    account: dict[str, Any] = {
        "email": email,
        "role": next((role for realm_role, role in mapping.items() if realm_role in held), default_role),
        "disabled": user.get("enabled") is False,
    }
    if full:
        account["name"] = full[:100]
    notes = []
    for credential in user.get("credentials") or ():
        try:
            kind = credential.get("type")
            if kind == "password":
                account["password_hash"] = _password(_parsed(credential))
            elif kind == "otp":
                account["totp"] = _totp(_parsed(credential))
            else:
                notes.append(f"credential {str(kind)[:40]} is left behind")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = str(error) if isinstance(error, _Unusable) else "it is not understood"
            notes.append(f"credential {_kind(credential)} is left behind: {why}")
    return Found(name, account, notes=tuple(notes))


class _Unusable(ValueError):
    """The text says why."""


def _kind(credential: Any) -> str:
    return str(credential.get("type"))[:40] if isinstance(credential, dict) else "?"


def _parsed(credential: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keycloak keeps both halves as JSON in a text."""
    secret, data = json.loads(credential["secretData"]), json.loads(credential["credentialData"])
    if not isinstance(secret, dict) or not isinstance(data, dict):
        raise TypeError
    return secret, data


def _password(parsed: tuple[dict[str, Any], dict[str, Any]]) -> str:
    secret, data = parsed
    algorithm, value = str(data.get("algorithm")), str(secret["value"])
    if algorithm == "bcrypt" or _BCRYPT.fullmatch(value):
        if not _BCRYPT.fullmatch(value):
            raise _Unusable("its bcrypt hash is not written $2a$…")
        return value
    salt, digest = _unpadded(str(secret["salt"])), _unpadded(value)
    iterations = int(data["hashIterations"])
    if algorithm in _PBKDF2:
        return f"${algorithm}$i={iterations}${salt}${digest}"
    if algorithm == "argon2":
        more = {key: str(values[0]) for key, values in data["additionalParameters"].items()}
        if more.get("version", "1.3") != "1.3" or more.get("type", "id") not in ("id", "i"):
            raise _Unusable("its argon2 variant is not supported")
        costs = f"m={int(more['memory'])},t={iterations},p={int(more['parallelism'])}"
        return f"$argon2{more.get('type', 'id')}$v=19${costs}${salt}${digest}"
    raise _Unusable(f"algorithm {algorithm[:40]} is not supported")


def _totp(parsed: tuple[dict[str, Any], dict[str, Any]]) -> str:
    """Keycloak's secret is a text whose bytes are the key, unless it says BASE32."""
    secret, data = parsed
    if data.get("subType", "totp") != "totp" or (data.get("digits"), data.get("period")) != (6, 30):
        raise _Unusable("only six digits every 30 seconds are supported")
    if data.get("algorithm") != "HmacSHA1":
        raise _Unusable("only SHA-1 codes are supported")
    value = str(secret["value"])
    return value if data.get("secretEncoding") == "BASE32" else base64.b32encode(value.encode()).decode().rstrip("=")


def _unpadded(text: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode().rstrip("=")
    except binascii.Error:
        raise _Unusable("salt or hash is not base64") from None
