"""What the issuer says of itself is complete, true and modern (OpenID Connect Discovery, RFC 8414, RFC 9700)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.probe.kit import Idp

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "introspection_endpoint",
    "end_session_endpoint",
    "pushed_authorization_request_endpoint",
    "device_authorization_endpoint",
)
HAS: dict[str, tuple[str, ...]] = {
    "response_types_supported": ("code",),
    "subject_types_supported": ("public",),
    "code_challenge_methods_supported": ("S256",),
    "grant_types_supported": ("authorization_code", "refresh_token", "client_credentials"),
    "token_endpoint_auth_methods_supported": ("private_key_jwt", "client_secret_basic"),
    "id_token_signing_alg_values_supported": ("RS256",),
    "dpop_signing_alg_values_supported": ("ES256",),
    "scopes_supported": ("openid",),
    "claims_supported": ("sub",),
}
HAS_NOT: dict[str, tuple[str, ...]] = {
    "response_types_supported": ("token", "id_token", "code token", "id_token token", "code id_token"),
    "code_challenge_methods_supported": ("plain",),
    "grant_types_supported": ("implicit", "password"),
    "id_token_signing_alg_values_supported": ("none", "HS256"),
    "dpop_signing_alg_values_supported": ("none", "HS256", "RS1"),
    "token_endpoint_auth_signing_alg_values_supported": ("none", "HS256"),
    "token_endpoint_auth_methods_supported": ("client_secret_jwt",),
}
TRUE = (
    "authorization_response_iss_parameter_supported",
    "backchannel_logout_supported",
    "backchannel_logout_session_supported",
)
PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k", "oth")


def test_both_documents_agree_and_name_their_issuer(idp: Idp) -> None:
    oauth = idp.ask("GET", "/.well-known/oauth-authorization-server/auth")
    assert oauth.json() == idp.metadata
    assert idp.metadata["issuer"] == idp.issuer
    assert oauth.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_is_named_below_the_issuer(idp: Idp, name: str) -> None:
    assert idp.metadata[name].startswith(idp.issuer + "/")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HAS.items() for value in values])
def test_it_offers(idp: Idp, name: str, value: str) -> None:
    assert value in idp.metadata[name]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HAS_NOT.items() for value in values])
def test_it_does_not_offer(idp: Idp, name: str, value: str) -> None:
    assert value not in idp.metadata.get(name, ())


@pytest.mark.parametrize("name", TRUE)
def test_it_says_yes(idp: Idp, name: str) -> None:
    assert idp.metadata[name] is True


def test_registration_is_off(idp: Idp) -> None:
    assert "registration_endpoint" not in idp.metadata


def keys(idp: Idp) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = idp.ask("GET", idp.metadata["jwks_uri"]).json()["keys"]
    return found


def test_keys_are_public_named_and_for_signing(idp: Idp) -> None:
    assert keys(idp)
    for key in keys(idp):
        assert {"kid", "kty", "alg", "use"} <= set(key)
        assert key["use"] == "sig"
        assert not set(PRIVATE) & set(key)
    assert len({key["kid"] for key in keys(idp)}) == len(keys(idp))


@pytest.mark.parametrize(
    "path",
    [
        "/auth/.well-known/openid-configuration",
        "/auth/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/auth",
        "/auth/jwks.json",
    ],
)
def test_who_asks_for_the_head_is_told_as_who_reads(idp: Idp, path: str) -> None:
    read, head = idp.ask("GET", path), idp.ask("HEAD", path)
    assert (read.status_code, head.status_code, head.content) == (200, 200, b"")
    for name in ("content-type", "content-length", "cache-control"):
        assert head.headers[name] == read.headers[name], name


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/auth/.well-known/openid-configuration", "/auth/jwks.json"])
def test_it_is_only_read(idp: Idp, method: str, path: str) -> None:
    assert idp.ask(method, path).status_code in (403, 405)


def test_a_browser_on_another_site_may_read_the_public_documents_or_nothing_more(idp: Idp) -> None:
    for path in ("/auth/userinfo", "/auth/authorize", "/auth/account", "/login"):
        answer = idp.ask(
            "OPTIONS", path, headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
        )
        assert answer.status_code < 500
        assert answer.headers.get("access-control-allow-credentials") != "true"
        assert answer.headers.get("access-control-allow-origin") != "https://evil.example"
