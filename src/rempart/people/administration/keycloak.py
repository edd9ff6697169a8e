"""Users of a Keycloak realm export (JSON), as accounts to import: their password hashes, TOTP secrets, mapped roles.

A realm's roles mean nothing here until they are mapped by name: nobody becomes administrator by a namesake. They count
however the person holds them: themselves, by a group or one above it, or as part of another role. Hashes are kept as
they are and verified until the next login makes our own of them.

Nobody becomes easier to break into by moving: whose second factor can't be brought along comes disabled, and a
temporary password is left behind.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel.errors import BadInput

_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_PBKDF2 = ("pbkdf2-sha256", "pbkdf2-sha512")
_SECOND_FACTORS = ("otp", "webauthn", "recovery-authn-codes")
_DEPTH = 50  # of groups in groups


@dataclass(frozen=True, slots=True)
class Found:
    """One user of the export: either an account to import, in the words of `imports.NewAccount`, or why not.

    `notes`: what of them could not be brought along.
    """

    name: str
    account: dict[str, Any] | None = field(default=None, repr=False)
    error: str = ""
    notes: tuple[str, ...] = ()


def read_realm(text: str, mapping: Mapping[str, str], default_role: str, *more_users: str) -> list[Found]:
    """`mapping`: realm role, or CLIENT/ROLE of a client's, → role; the first in its order that a user has counts.
    `more_users`: files of users beside the realm's own. Raises BadInput `bad_realm`."""
    try:
        realm = json.loads(text)
        users = list(realm.get("users") or ())
        for one in more_users:
            users += json.loads(one)["users"]
        if not users or not all(isinstance(user, dict) for user in users):
            raise TypeError
        held = _Held(realm)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(
            "bad_realm",
            "this is not a realm export with users",
            "export with `kc.sh export --realm NAME --file realm.json`",
        ) from None
    return [_user(user, mapping, default_role, held) for user in users]


class _Held:
    """Which roles somebody holds, by what the realm says of its groups and roles. Client roles are CLIENT/ROLE."""

    def __init__(self, realm: Mapping[str, Any]) -> None:
        self._of_group: dict[str, set[str]] = {}
        self._parts: dict[str, set[str]] = {}
        self._read_groups(realm.get("groups") or (), "", set(), _DEPTH)
        roles = realm.get("roles") or {}
        for role in roles.get("realm") or ():
            self._parts[role["name"]] = _granted(role.get("composites") or {}, "realm", "client")
        for client, theirs in (roles.get("client") or {}).items():
            for role in theirs:
                self._parts[f"{client}/{role['name']}"] = _granted(role.get("composites") or {}, "realm", "client")

    def roles(self, user: Mapping[str, Any]) -> set[str]:
        """Raises as malformed documents do: TypeError, AttributeError."""
        found = _granted(user, "realmRoles", "clientRoles")
        for group in user.get("groups") or ():
            found |= self._of_group.get(group, set())
        waiting = list(found)
        while waiting:
            new = self._parts.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    def _read_groups(self, groups: Iterable[Mapping[str, Any]], above: str, inherited: set[str], depth: int) -> None:
        if not depth:
            raise ValueError("groups nested too deeply")
        for group in groups:
            path = f"{above}/{group['name']}"
            self._of_group[path] = inherited | _granted(group, "realmRoles", "clientRoles")
            self._read_groups(group.get("subGroups") or (), path, self._of_group[path], depth - 1)


def _granted(document: Mapping[str, Any], realm: str, client: str) -> set[str]:
    own = {str(role) for role in document.get(realm) or ()}
    return own | {f"{name}/{role}" for name, roles in (document.get(client) or {}).items() for role in roles}


def _user(user: Mapping[str, Any], mapping: Mapping[str, str], default_role: str, realm: _Held) -> Found:
    name = str(user.get("username") or user.get("email") or user.get("id") or "?")[:320]
    if user.get("serviceAccountClientId"):
        return Found(name, error="it is a client's service account: register the client instead")
    email = user.get("email") or (name if "@" in name else "")
    if not isinstance(email, str) or not email:
        return Found(name, error="it has no e-mail address")
    try:
        held = realm.roles(user)
    except (TypeError, AttributeError):
        return Found(name, error="its roles or groups are not understood")
    full = " ".join(str(user[part]) for part in ("firstName", "lastName") if user.get(part))
    account: dict[str, Any] = {
        "email": email,
        "role": next((role for theirs, role in mapping.items() if theirs in held), default_role),
        "disabled": user.get("enabled") is False,
    }
    if full:
        account["name"] = full[:100]
    notes = _credentials(user, account)
    return Found(name, account, notes=tuple(notes))


def _credentials(user: Mapping[str, Any], account: dict[str, Any]) -> list[str]:
    """Fills in `account`; the answer are the notes."""
    notes: list[str] = []
    lost_factor = False
    for credential in _list(user.get("credentials")):
        kind = _kind(credential)
        try:
            if kind == "password-history":
                continue
            if kind == "password":
                account["password_hash"] = _password(_parsed(credential))
            elif kind == "otp" and "totp" in account:
                notes.append("another one-time code generator is left behind")
            elif kind == "otp":
                account["totp"] = _totp(_parsed(credential))
            else:
                notes.append(f"credential {kind} is left behind")
                lost_factor |= kind in _SECOND_FACTORS
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = str(error) if isinstance(error, _Unusable) else "it is not understood"
            notes.append(f"credential {kind} is left behind: {why}")
            lost_factor |= kind in _SECOND_FACTORS
    if "UPDATE_PASSWORD" in _list(user.get("requiredActions")) and account.pop("password_hash", None):
        notes.append("the password was temporary and is left behind: send a link to choose one")
    if lost_factor and "totp" not in account and not account["disabled"]:
        account["disabled"] = True
        notes.append("no second factor could be brought along: disabled, enable it once they can prove who they are")
    return notes


class _Unusable(ValueError):
    """The text says why."""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(credential: Any) -> str:
    """Of something that may be no credential."""
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
