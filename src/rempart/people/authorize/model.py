"""What the authorization room speaks about: frozen values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from ..oauth.model import Client

ONE_FACTOR, MULTI_FACTOR, PHISHING_RESISTANT = "1fa", "mfa", "phr"
ACRS = (ONE_FACTOR, MULTI_FACTOR, PHISHING_RESISTANT)  # weakest first: a stronger one answers for a weaker
OPENID, OFFLINE = "openid", "offline_access"


def acr_of(amr: tuple[str, ...]) -> str:
    """The authentication context class that these methods (RFC 8176) reach."""
    methods = set(amr)
    if methods & {"hwk", "swk", "pop"} and methods & {"user", "mfa"}:
        return PHISHING_RESISTANT
    return MULTI_FACTOR if "mfa" in methods else ONE_FACTOR


def reaches(amr: tuple[str, ...], acr: str) -> bool:
    """`acr` "" demands nothing."""
    return not acr or ACRS.index(acr_of(amr)) >= ACRS.index(acr)


def told_of_logout(client: Client) -> bool:
    """Only at an address that the operator registered: who registers themselves names no place to call."""
    return bool(client.backchannel_logout_uri) and client.registered == "operator"


class Step(StrEnum):
    """What the person must be asked next."""

    SIGN_IN = "sign_in"
    STEP_UP = "step_up"
    SELECT_ACCOUNT = "select_account"
    CONSENT = "consent"
    READY = "ready"


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed every check that needs no person. `max_age` in seconds, -1 when not given.

    `acr` is the least that is demanded, "" for none. `subject` is the account that it must be, "" for any; `audience`
    whom tokens are to be for, () where that was not said.
    """

    client_id: str
    redirect_uri: str
    response_mode: str
    scopes: tuple[str, ...]
    state: str
    nonce: str
    challenge: str
    jkt: str
    prompt: tuple[str, ...]
    max_age: int
    acr: str
    login_hint: str
    locale: str
    subject: str
    audience: tuple[str, ...]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits for a person; `chosen` is the session that was picked at SELECT_ACCOUNT."""

    request: AuthorizationRequest
    created_at: float
    chosen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """A waiting request as its pages show it. `id` is what the page's address holds; keep it out of logs.

    `redirect_source` is where the browser goes afterwards as a CSP source.
    """

    id: str = field(repr=False)
    client_id: str
    client_name: str
    redirect_host: str
    redirect_source: str
    scopes: tuple[str, ...]
    step: Step
    acr: str
    login_hint: str
    locale: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An answer for the client, sent through the browser by `answers.respond`; mode `query` or `form_post`."""

    redirect_uri: str
    parameters: dict[str, str] = field(repr=False)
    mode: str = "query"


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What an authorization code stands for. `state`: `fresh` → `used`, or `reused` once it came again.

    `grant_id` names beforehand what will come of it, so that a second use can revoke it.
    """

    client_id: str
    redirect_uri: str
    challenge: str
    jkt: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    nonce: str
    account_id: str
    epoch: int
    session_id: str
    amr: tuple[str, ...]
    auth_time: float
    grant_id: str
    expires_at: float
    state: str = "fresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a person lets a client have, until either is gone or it is revoked."""

    account_id: str
    client_id: str
    client_name: str
    scopes: tuple[str, ...]
    granted_at: float
