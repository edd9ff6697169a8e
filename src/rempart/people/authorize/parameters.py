"""Reading an authorization request: OAuth 2 (RFC 6749 section 4.1.1), OpenID Connect Core section 3.1.2.1, PKCE.

How a request is judged, numbered here and tagged where it is done; up to step 3 nothing may be redirected:
 1. its parameters decode, are bounded, and none is there twice;
 2. the client is known;
 3. the redirect URI is one of the client's;
 4. `response_mode`, then everything else; a refusal is an `AuthorizationError` that goes to the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

from ..oauth.demands import audience_named
from ..oauth.model import Client, Grant
from .model import ACRS, OFFLINE, AuthorizationRequest
from .redirects import matches

MAX_QUERY = 16 * 1024
MODES = ("query", "form_post")
PROMPTS = ("none", "login", "consent", "select_account")
LOCALES = ("en", "fr")
MAX_STATE = 4096
_LIMITS = {"state": MAX_STATE, "scope": 1024, "nonce": 512, "login_hint": 320, "claims": 4096}
_LIMIT = 2000
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # 256 bits, base64url
_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*", re.ASCII)  # RFC 6749 section 3.3
_VISIBLE = re.compile(r"[ -~]*", re.ASCII)  # RFC 6749 appendix A


class AuthorizationError(BadInput):
    """A refusal that the client is told through the browser (RFC 6749 section 4.1.2.1, OpenID Connect Core 3.1.2.6)."""


def parse(raw: bytes) -> tuple[dict[str, str], frozenset[str]]:
    """The parameters, and the names that are there more than once. BadInput `invalid_request`."""
    try:
        if len(raw) > MAX_QUERY:
            raise ValueError("too long")
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
    except (ValueError, UnicodeError):
        raise BadInput("invalid_request", "the parameters are too long or can't be decoded") from None  # step 1
    parameters: dict[str, str] = {}
    twice = set()
    for name, value in pairs:
        if name in parameters:
            twice.add(name)
        if value:  # RFC 6749 section 3.1: one without a value is as none
            parameters[name] = value
        else:
            parameters.setdefault(name, "")
    return parameters, frozenset(twice)


def redirect_uri(parameters: Mapping[str, str], client: Client) -> str:
    """BadInput `invalid_redirect_uri`: the person must be told, not the address."""
    given = parameters.get("redirect_uri", "")
    if not given:
        raise BadInput("invalid_redirect_uri", "redirect_uri is missing")  # step 3
    if not matches(given, client.redirect_uris, native=client.public):
        raise BadInput("invalid_redirect_uri", "redirect_uri is not one that this client has registered")  # step 3
    return given


def response_mode(parameters: Mapping[str, str]) -> str:
    """AuthorizationError `invalid_request`, which then goes as a query."""
    mode = parameters.get("response_mode") or "query"
    if mode not in MODES:
        raise AuthorizationError("invalid_request", "response_mode is not query or form_post")
    return mode


def read(
    parameters: Mapping[str, str], twice: frozenset[str], client: Client, uri: str, *, subject: str, trust_domain: str
) -> AuthorizationRequest:
    """Step 4; `subject` is what a verified `id_token_hint` said. Raises AuthorizationError."""
    if twice:
        raise _invalid(f"{_shown(min(twice))} is given twice")  # step 1
    for name, value in parameters.items():
        if name != "id_token_hint" and len(value) > _LIMITS.get(name, _LIMIT):
            raise _invalid(f"{_shown(name)} is too long")
    if "request" in parameters:
        raise AuthorizationError("request_not_supported", "request objects are not taken: push the request instead")
    if "registration" in parameters:
        raise AuthorizationError("registration_not_supported", "clients don't register in a request")
    kind = parameters.get("response_type", "")
    if not kind:
        raise _invalid("response_type is missing")
    if kind != "code":
        raise AuthorizationError("unsupported_response_type", "response_type must be code")
    if Grant.AUTHORIZATION_CODE not in client.grants:
        raise AuthorizationError("unauthorized_client", "this client may not ask for a code")
    if not _VISIBLE.fullmatch(parameters.get("nonce", "")):
        raise _invalid("nonce may hold printable ASCII only")
    try:
        audience = audience_named(parameters, client, trust_domain)
    except BadInput as error:
        raise AuthorizationError(error.code, error.reason) from None
    demanded, wanted = _claims(parameters.get("claims", ""))
    if subject and wanted and subject != wanted:
        raise AuthorizationError("login_required", "id_token_hint and claims name different people")
    return AuthorizationRequest(
        client_id=client.id,
        redirect_uri=uri,
        response_mode=response_mode(parameters),
        scopes=scopes_of(parameters.get("scope", ""), client),
        state=parameters.get("state", ""),
        nonce=parameters.get("nonce", ""),
        challenge=_challenge(parameters),
        jkt=_thumbprint(parameters),
        prompt=_prompt(parameters.get("prompt", "")),
        max_age=_max_age(parameters.get("max_age", "")),
        acr=acr_of_values(demanded or parameters.get("acr_values", "").split()),
        login_hint=parameters.get("login_hint", "") if parameters.get("login_hint", "").isprintable() else "",
        locale=locale_of(parameters.get("ui_locales", "")),
        subject=subject or wanted,
        audience=audience,
    )


def scopes_of(text: str, client: Client) -> tuple[str, ...]:
    """Each once, in the order asked. AuthorizationError `invalid_scope` for none, malformed or not the client's."""
    if not _SCOPE.fullmatch(text):
        raise AuthorizationError("invalid_scope", "scope is missing or malformed")
    asked = tuple(dict.fromkeys(text.split(" ")))
    allowed = set(client.scopes)
    if OFFLINE in asked and Grant.REFRESH_TOKEN not in client.grants:
        asked = tuple(scope for scope in asked if scope != OFFLINE)  # OpenID Connect Core section 11: ignore it
    foreign = [scope for scope in asked if scope not in allowed and scope != OFFLINE]
    if foreign or not asked:
        raise AuthorizationError("invalid_scope", "this client may not ask for that scope")
    return asked


def locale_of(ui_locales: str) -> str:
    """The first language of BCP 47 tags that the pages speak, "" for none."""
    for tag in ui_locales.split()[:10]:
        language = tag.partition("-")[0].lower()
        if language in LOCALES:
            return language
    return ""


def _challenge(parameters: Mapping[str, str]) -> str:
    """RFC 7636 with S256 only (RFC 9700 section 2.1.1): a missing method would mean `plain`."""
    challenge = parameters.get("code_challenge", "")
    if not challenge:
        raise _invalid("code_challenge is missing: PKCE is required")
    if parameters.get("code_challenge_method") != "S256":
        raise _invalid("code_challenge_method must be S256")
    if not _THUMBPRINT.fullmatch(challenge):
        raise _invalid("code_challenge is not an S256 challenge")
    return challenge


def _thumbprint(parameters: Mapping[str, str]) -> str:
    """RFC 9449 section 10."""
    jkt = parameters.get("dpop_jkt", "")
    if jkt and not _THUMBPRINT.fullmatch(jkt):
        raise _invalid("dpop_jkt is not a SHA-256 thumbprint")
    return jkt


def _prompt(text: str) -> tuple[str, ...]:
    prompts = tuple(dict.fromkeys(text.split()))
    if any(prompt not in PROMPTS for prompt in prompts):
        raise _invalid("prompt has an unknown value")
    if "none" in prompts and len(prompts) > 1:
        raise _invalid("prompt none goes with no other")
    return prompts


def _max_age(text: str) -> int:
    if not text:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _invalid("max_age is not a number of seconds")
    return int(text)


def acr_of_values(values: list[str]) -> str:
    """The weakest of those that would do (RFC 9470 section 5)."""
    known = [acr for acr in ACRS if acr in values]
    if values and not known:
        raise AuthorizationError("unmet_authentication_requirements", "none of these acr_values is known here")
    return known[0] if known and known[0] != ACRS[0] else ""


def _claims(text: str) -> tuple[list[str], str]:
    """OpenID Connect Core section 5.5, as far as it decides something: an essential `acr`, and `sub` with a value."""
    if not text:
        return [], ""
    try:
        document = strict_json.loads(text)
    except BadInput:
        raise _invalid("claims is not JSON") from None
    token = document.get("id_token") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(token or {}, dict):
        raise _invalid("claims is not an object of objects")
    acr, subject = _member(token or {}, "acr"), _member(token or {}, "sub")
    values = acr.get("values", [acr["value"]] if "value" in acr else [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _invalid("claims asks for an acr that is not text")
    sub = subject.get("value", "")
    if not isinstance(sub, str):
        raise _invalid("claims asks for a sub that is not text")
    return values if acr.get("essential") is True else [], sub


def _member(token: dict[str, Any], name: str) -> dict[str, Any]:
    value = token.get(name)
    if not isinstance(value, dict | None):
        raise _invalid("claims is not an object of objects")
    return value or {}


def _shown(name: str) -> str:
    """A stranger's word inside an error_description, which may hold no quote and no backslash (RFC 6749, 4.1.2.1)."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", name[:40])


def _invalid(why: str) -> AuthorizationError:
    return AuthorizationError("invalid_request", why)
