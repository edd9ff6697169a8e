"""What the OAuth room speaks about: clients, what they ask for, what is granted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from rempart.people.model import FIRST_PARTY, Account, Origin


class Method(StrEnum):
    """How a client authenticates (RFC 7591 section 2). A secret may be sent in either of its two ways."""

    NONE = "none"
    SECRET_BASIC = "client_secret_basic"  # nosec B105 - a registered name
    SECRET_POST = "client_secret_post"  # nosec B105 - a registered name
    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS = "tls_client_auth"
    SELF_SIGNED_TLS = "self_signed_tls_client_auth"


class Grant(StrEnum):
    """Grant types by their registered names."""

    AUTHORIZATION_CODE = "authorization_code"
    REFRESH_TOKEN = "refresh_token"  # nosec B105 - a registered name
    CLIENT_CREDENTIALS = "client_credentials"
    PASSWORD = "password"  # nosec B105 - a registered name
    DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
    TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # nosec B105 - a registered name
    JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


BY_CERTIFICATE = frozenset({Method.TLS, Method.SELF_SIGNED_TLS})
SECRETS = frozenset({Method.SECRET_BASIC, Method.SECRET_POST})
FOR_PERSONS = frozenset({Grant.AUTHORIZATION_CODE, Grant.DEVICE_CODE, Grant.PASSWORD})


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program registered for OAuth. `redirect_uris` match exactly; `scopes` is all that it may ask for.

    `audiences`: whom its access tokens may be for, the first by default, none for the trust domain; it may exchange
    tokens for these and no others. `serves`: audiences that it is itself, whose tokens it may introspect.
    `spiffe_id` or `certificate` (SHA-256 of its DER, base64url) proves it by mTLS, or by an authority's word
    `certificate_subject` (`dn:`, `dns:`, `uri:`, `email:` or `ip:` and the name). `access_ttl` and `refresh_ttl` (of a
    whole family) in seconds, None for the issuer's. `id_token_signed_response_alg`: what its ID and logout tokens are
    signed with, "" for the issuer's.
    `dpop_bound`, `certificate_bound`: its tokens are bound to its key, always. `consent`: people are asked before it
    gets anything. `secret_hash` and nothing else here is confidential.
    """

    id: str
    name: str
    method: Method
    secret_hash: bytes = b""
    jwks: tuple[dict[str, Any], ...] = ()
    spiffe_id: str = ""
    certificate: str = ""
    certificate_subject: str = ""
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str = ""
    grants: tuple[Grant, ...] = ()
    scopes: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    access_ttl: int | None = None
    refresh_ttl: int | None = None
    id_token_signed_response_alg: str = ""
    consent: bool = False
    dpop_bound: bool = False
    certificate_bound: bool = False
    registered: Literal["operator", "dynamic"] = "operator"
    created_at: float = 0.0

    @property
    def public(self) -> bool:
        """It can keep no secret (RFC 6749 section 2.1)."""
        return self.method is Method.NONE

    @property
    def first_party(self) -> bool:
        return self.id == FIRST_PARTY

    def shown(self) -> dict[str, Any]:
        """As the operator sees it, and as `before` and `after` of an event: without the secret's hash."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        del document["secret_hash"]
        return document


FIRST_PARTY_CLIENT = Client(
    id=FIRST_PARTY, name="login", method=Method.NONE, grants=(Grant.REFRESH_TOKEN,), scopes=("session",)
)
"""Who logged in at `POST /login` and names no client."""


class Binding(msgspec.Struct, frozen=True):
    """The keys that the caller proved to hold: a JWK thumbprint by DPoP, a certificate's thumbprint by mTLS."""

    jkt: str = ""
    x5t: str = ""

    @property
    def confirmation(self) -> dict[str, str] | None:
        """The claim `cnf` (RFC 9449 section 6, RFC 8705 section 3.1)."""
        if self.jkt:
            return {"jkt": self.jkt}
        return {"x5t#S256": self.x5t} if self.x5t else None

    def __str__(self) -> str:
        return f"jkt:{self.jkt}" if self.jkt else f"x5t:{self.x5t}" if self.x5t else ""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request at the token endpoint whose client is proved and may use this grant."""

    client: Client
    form: Mapping[str, str]
    origin: Origin
    binding: Binding


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What a grant handler answers; the endpoint records it, mints the tokens and answers.

    `account` None: the client acts for itself. `session_id`: the browser's session behind it. `refreshable`: a refresh
    family is opened, under `grant_id` if that is given (`fam_…` from `new_id("fam")`), if the client has the grant.
    `id_token` makes the ID token, given the access token (for `at_hash`). `settle` is awaited once the family is
    durable, before the answer: a code that came twice meanwhile ends the family there. `actor` is the claim `act`.
    `until` bounds the access token's life. `session` is its `sid`, and `refresh_token` goes with it,
    where it descends from what was granted before.
    """

    account: Account | None
    scope: tuple[str, ...]
    amr: tuple[str, ...] = ()
    auth_time: float = 0.0
    acr: str = ""
    session_id: str = ""
    session: str = ""
    audience: tuple[str, ...] = ()
    refreshable: bool = False
    grant_id: str = ""
    id_token: Callable[[str], str] | None = None
    settle: Callable[[], Awaitable[None]] | None = None
    actor: Mapping[str, Any] | None = None
    until: float | None = None
    refresh_token: str = ""
    members: Mapping[str, Any] = {}
    """More members of the answer."""
