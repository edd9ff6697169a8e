"""What a client may look like. BadInput `invalid_redirect_uri`, `invalid_client_metadata` (RFC 7591 section 3.2.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from rempart.crypto.jws import PublicKey
from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId
from rempart.people.access_tokens import LONGEST_TTL
from rempart.people.model import FIRST_PARTY

from .model import BY_CERTIFICATE, FOR_PERSONS, SECRETS, Client, Grant, Method
from .profile import Profile

MAX_URIS = 16
MAX_KEYS = 8
MAX_SCOPES = 64
LEAST_REFRESH, MOST_REFRESH = 60, 366 * 86400  # seconds, as `[tokens] refresh_ttl`
LEAST_SECRET = 16  # characters, when somebody else chose it; ours has 43
_ID = re.compile(r"(?!usr_)[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")  # no client looks like a person (RFC 9700 4.15)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")  # RFC 6749 section 3.3
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,256}")
_URI = re.compile(r"[\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]{1,512}")  # what RFC 3986 has, no fragment
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_SUBJECT = re.compile(r"(dn|dns|uri|email|ip):[^\x00-\x1f\x7f]{1,512}")
_BY_MTLS = "a certificate, its subject or a SPIFFE ID"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_client(client: Client, profile: Profile) -> Client:
    """The client if it may be registered."""
    if not _ID.fullmatch(client.id) or client.id == FIRST_PARTY:
        raise _bad("an id has 1 to 64 letters, digits and . _ ~ -, and is not `login`")
    if not 1 <= len(client.name) <= 100 or not client.name.isprintable():
        raise _bad("a name has 1 to 100 printable characters")
    _check_method(client, profile)
    _check_keys(client, profile)
    for uris in (client.redirect_uris, client.post_logout_redirect_uris):
        _check_count("URIs", uris, MAX_URIS)
        for uri in uris:
            check_redirect(uri, native=client.public)
    if client.backchannel_logout_uri:
        check_redirect(client.backchannel_logout_uri, native=False)
    _check_grants(client, profile)
    _check_count("scopes", client.scopes, MAX_SCOPES)
    if not all(_SCOPE.fullmatch(scope) for scope in client.scopes):
        raise _bad("a scope has 1 to 64 printable ASCII characters without space, quote and backslash")
    for names in (client.audiences, client.serves):
        _check_count("audiences", names, MAX_URIS)
        if not all(_AUDIENCE.fullmatch(name) for name in names):
            raise _bad("an audience has 1 to 256 printable ASCII characters without space")
    if client.access_ttl is not None and not 10 <= client.access_ttl <= LONGEST_TTL:
        raise _bad(f"access tokens live 10 to {LONGEST_TTL} seconds")
    if client.refresh_ttl is not None and not LEAST_REFRESH <= client.refresh_ttl <= MOST_REFRESH:
        raise _bad(f"refresh tokens live {LEAST_REFRESH} to {MOST_REFRESH} seconds")
    if client.id_token_signed_response_alg not in ("", *profile.signing):
        raise _bad(f"ID tokens are signed with {', '.join(profile.signing)}")
    return client


def check_redirect(uri: str, *, native: bool) -> None:
    """https, http for this host only, or for a native app its own scheme with a dot (RFC 8252, RFC 9700 2.1)."""
    try:
        parts = urlsplit(uri)
        host, scheme, _ = parts.hostname or "", parts.scheme, parts.port
    except ValueError:
        host = scheme = ""
    safe = (
        (scheme == "https" and host != "")
        or (scheme == "http" and host in _LOOPBACK)
        or (native and "." in scheme and _SCHEME.fullmatch(scheme) is not None)
    )
    if not safe or not _URI.fullmatch(uri) or "#" in uri or "@" in parts.netloc or "*" in parts.netloc:
        raise BadInput(
            "invalid_redirect_uri",
            f"{uri[:120]!r} is not a URI that can be used",
            "give an absolute https URI without fragment, user or wildcard; http only for localhost",
        )


def _check_method(client: Client, profile: Profile) -> None:
    if client.method not in profile.methods:
        raise _bad(f"the security profile {profile.name} knows no {client.method}")
    tls = BY_CERTIFICATE
    proofs = (
        ("a secret", bool(client.secret_hash), client.method in SECRETS),
        ("a key set", bool(client.jwks), client.method is Method.PRIVATE_KEY_JWT),
        (_BY_MTLS, bool(client.certificate or client.spiffe_id or client.certificate_subject), client.method in tls),
    )
    for what, given, wanted in proofs:
        if given != wanted and not (what == _BY_MTLS and client.spiffe_id and not wanted):
            raise _bad(f"{client.method} {'needs' if wanted else 'goes without'} {what}")
    if client.spiffe_id:
        try:
            spiffe_id = SpiffeId.parse(client.spiffe_id)
        except BadInput as error:
            raise _bad(error.reason) from None
        if not spiffe_id.path:
            raise _bad("a SPIFFE ID names a workload, not a whole trust domain")
    if client.certificate and not _THUMBPRINT.fullmatch(client.certificate):
        raise _bad("a certificate's thumbprint is SHA-256, base64url")
    _check_subject(client)
    if client.certificate_bound and client.method not in BY_CERTIFICATE:
        raise _bad("only a client that authenticates by mTLS has certificate-bound tokens")


def _check_subject(client: Client) -> None:
    """RFC 8705 section 2.1.2: one name, of one kind; section 2.2: a certificate and no name."""
    if client.certificate_subject and not _SUBJECT.fullmatch(client.certificate_subject):
        raise _bad("a certificate's subject is dn:, dns:, uri:, email: or ip: and a name of at most 512 characters")
    if client.certificate_subject and (client.certificate or client.spiffe_id):
        raise _bad("a client is known by a certificate, by its subject, or by a SPIFFE ID")
    if client.method is Method.SELF_SIGNED_TLS and not client.certificate:
        raise _bad(f"{client.method} needs the certificate itself")


def _check_keys(client: Client, profile: Profile) -> None:
    """Public keys only, each of use with this profile, and those with a `kid` with one of their own."""
    _check_count("keys", [json.dumps(jwk, sort_keys=True) for jwk in client.jwks], MAX_KEYS)
    kids = [jwk["kid"] for jwk in client.jwks if "kid" in jwk]
    if not all(isinstance(kid, str) and len(kid) <= 256 for kid in kids) or len(set(kids)) != len(kids):
        raise _bad("a key's kid is a text, of that key alone")
    for jwk in client.jwks:
        try:
            key = PublicKey.load(jwk)
        except BadInput as error:
            raise _bad(error.reason) from None
        if not key.algorithms & set(profile.algorithms):
            raise _bad(f"the security profile {profile.name} doesn't take signatures by such a key")


def _check_grants(client: Client, profile: Profile) -> None:
    grants = frozenset(client.grants)
    if not grants or len(grants) != len(client.grants):
        raise _bad("grants are missing or named twice")
    for grant in grants - profile.grants:
        raise _bad(f"the security profile {profile.name} knows no {grant}")
    if client.public and grants & {Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE}:
        raise _bad("a public client can't prove itself, so it can't act for itself or exchange tokens")
    if Grant.AUTHORIZATION_CODE in grants and not client.redirect_uris:
        raise BadInput("invalid_redirect_uri", "authorization_code needs a redirect URI")
    if client.redirect_uris and Grant.AUTHORIZATION_CODE not in grants:
        raise _bad("redirect URIs are for the grant authorization_code")
    if Grant.REFRESH_TOKEN in grants and not grants & FOR_PERSONS:
        raise _bad("refresh_token goes with a grant in which a person takes part")
    if Grant.JWT_BEARER in grants and not client.spiffe_id:
        raise _bad("jwt-bearer is for workloads: the client needs a SPIFFE ID")


def _check_count(what: str, values: Sequence[str], most: int) -> None:
    if len(values) > most or len(set(values)) != len(values):
        raise _bad(f"at most {most} {what}, none twice")


def _bad(why: str) -> BadInput:
    return BadInput("invalid_client_metadata", why, "see docs/people.md, Clients")
