"""Clients of a Keycloak realm export (JSON), in the words of `oauth.admin_api.NewClient`: ids and secrets stay.

Nothing becomes weaker by moving: redirect patterns, the implicit flow and the password grant are left behind, and said
so. A client without an address that can be kept, or whose way to prove itself is unknown here, is refused with the
reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rempart.kernel.errors import BadInput

from ..oauth.client_rules import LEAST_SECRET, check_redirect
from ..oauth.model import Grant
from .keycloak import Found

_KEYCLOAKS_OWN = frozenset(
    ("account", "account-console", "admin-cli", "broker", "realm-management", "security-admin-console")
)
_SCOPES_KNOWN = ("profile", "email", "roles", "offline_access")
_SCOPES_OF_KEYCLOAK = frozenset(
    ("web-origins", "acr", "basic", "address", "phone", "microprofile-jwt", "organization", "service_account")
)
_MASKED = "**********"
_LIST = "##"  # between the addresses of an attribute


def read_clients(text: str) -> list[Found]:
    """In the order of the export; Keycloak's own are passed over. Raises BadInput `bad_realm`."""
    try:
        clients = json.loads(text)["clients"]
        if not all(isinstance(client, dict) and isinstance(client["clientId"], str) for client in clients):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput(
            "bad_realm",
            "this is not a realm export with clients",
            "export with `kc.sh export --realm NAME --file realm.json`",
        ) from None
    return [_read(client) for client in clients if client["clientId"] not in _KEYCLOAKS_OWN]


def _read(client: Mapping[str, Any]) -> Found:
    name = client["clientId"][:320]
    try:
        return _client(client, name)
    except (TypeError, AttributeError, ValueError, KeyError):
        return Found(name, error="it is not understood")


def _client(client: Mapping[str, Any], name: str) -> Found:
    said: Mapping[str, Any] = client.get("attributes") or {}
    notes: list[str] = []
    if client.get("protocol", "openid-connect") != "openid-connect":
        return Found(name, error="it speaks SAML, which is not spoken here")
    if client.get("enabled") is False:
        return Found(name, error="it is disabled there")
    grants = _grants(client, said, notes)
    if not grants:
        return Found(name, error="it has no flow that is kept: a resource server is registered with --serves")
    document: dict[str, Any] = {"id": client["clientId"], "name": str(client.get("name") or client["clientId"])[:100]}
    proof = _proof(client, said, document, notes)
    if proof:
        return Found(name, error=proof)
    native = document.get("method") == "none"
    if Grant.AUTHORIZATION_CODE in grants:
        uris = _addresses(client.get("redirectUris") or (), client, notes, native=native)
        if not uris:
            return Found(name, error="no redirect URI can be kept", notes=tuple(notes))
        document["redirect_uris"] = uris
        after = str(said.get("post.logout.redirect.uris") or "").split(_LIST)
        document["post_logout_redirect_uris"] = (
            uris if after == ["+"] else _addresses([one for one in after if one not in ("", "+", "-")], client, notes)
        )
    if address := said.get("backchannel.logout.url"):
        document["backchannel_logout_uri"] = address
    document["grants"] = [str(grant) for grant in grants]
    document["scopes"] = _scopes(client, grants)
    document["consent"] = client.get("consentRequired") is True
    if lifespan := said.get("access.token.lifespan"):
        document["access_ttl"] = min(max(int(lifespan), 10), 86400)
    document["dpop_bound"] = _true(said, "dpop.bound.access.tokens")
    if client.get("protocolMappers"):
        notes.append("its protocol mappers are left behind: tokens say what scopes let them say")
    return Found(name, document, notes=tuple(notes))


def _grants(client: Mapping[str, Any], said: Mapping[str, Any], notes: list[str]) -> list[Grant]:
    found: list[Grant] = []
    standard = client.get("standardFlowEnabled") is not False and not client.get("bearerOnly")
    if standard and client.get("redirectUris"):  # it is on for programs alone, too, and leads nowhere
        found.append(Grant.AUTHORIZATION_CODE)
    if _true(said, "oauth2.device.authorization.grant.enabled"):
        found.append(Grant.DEVICE_CODE)
    if found:
        found.append(Grant.REFRESH_TOKEN)
    if not client.get("publicClient") and not client.get("bearerOnly"):
        if client.get("serviceAccountsEnabled"):
            found.append(Grant.CLIENT_CREDENTIALS)
        if _true(said, "standard.token.exchange.enabled"):
            found.append(Grant.TOKEN_EXCHANGE)
    if client.get("directAccessGrantsEnabled"):
        notes.append("the password grant is left behind: where it must be, register it with --grant password")
    if client.get("implicitFlowEnabled"):
        notes.append("the implicit flow is left behind: its application needs the code flow with PKCE")
    return found


def _proof(client: Mapping[str, Any], said: Mapping[str, Any], document: dict[str, Any], notes: list[str]) -> str:
    """Fills in `document`; why not, "" for done."""
    if client.get("publicClient"):
        document["method"] = "none"
        return ""
    kind = client.get("clientAuthenticatorType", "client-secret")
    if kind == "client-secret":
        secret = client.get("secret")
        document["method"] = "client_secret_basic"
        if isinstance(secret, str) and len(secret) >= LEAST_SECRET and secret != _MASKED:
            document["secret"] = secret
        else:
            notes.append("its secret is masked or too short: a new one is made, tell its owner")
        return ""
    if kind == "client-jwt" and said.get("jwks.string"):
        document["jwks"] = json.loads(said["jwks.string"])["keys"]
        return ""
    if kind == "client-x509" and said.get("x509.subjectdn") and not _true(said, "x509.allow.regex.pattern.comparison"):
        document["certificate_subject"] = f"dn:{said['x509.subjectdn']}"
        document["certificate_bound"] = _true(said, "tls.client.certificate.bound.access.tokens")
        return ""
    return f"it proves itself by {kind}, whose key is not in the export: register it with its key"


def _addresses(given: Iterable[str], client: Mapping[str, Any], notes: list[str], *, native: bool = False) -> list[str]:
    """Those that match exactly; relative ones below the root URL."""
    kept: list[str] = []
    root = str(client.get("rootUrl") or "").rstrip("/")
    for one in given:
        uri = root + one if one.startswith("/") else one
        try:
            check_redirect(uri, native=native)
            if "*" in uri:
                raise BadInput("invalid_redirect_uri", "it is a pattern")
        except BadInput:
            notes.append(f"{one[:100]!r} is left behind: addresses here are exact, https or this host")
        else:
            kept.append(uri)
    return list(dict.fromkeys(kept))


def _scopes(client: Mapping[str, Any], grants: Iterable[Grant]) -> list[str]:
    """Those of a person's claims where persons take part, and the realm's own."""
    theirs = [*(client.get("defaultClientScopes") or ()), *(client.get("optionalClientScopes") or ())]
    own = [one for one in theirs if one not in _SCOPES_OF_KEYCLOAK and one not in _SCOPES_KNOWN]
    if not {Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE} & set(grants):
        return list(dict.fromkeys(own))
    return list(dict.fromkeys(["openid", *(one for one in _SCOPES_KNOWN if one in theirs), *own]))


def _true(said: Mapping[str, Any], name: str) -> bool:
    return str(said.get(name, "")).lower() == "true"
