"""Authlib's client against the running bank's issuer: code with PKCE, refresh, introspection, revocation."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from tests.integration.conftest import Running
from tests.people_browser import Browser, sign_in

# Authlib 1.9 says of its own httpx integration that it will be replaced.
pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib.*")]
CALLBACK = "https://authlib.example/callback"
SECRET = "the secret of an authlib client, forty characters"


@pytest.fixture(scope="module")
def metadata(bank: Running) -> Iterator[dict[str, Any]]:
    options = ("--redirect-uri", CALLBACK, "--grant", "authorization_code", "--grant", "refresh_token")
    scopes = ("--scope", "openid", "--scope", "email", "--scope", "offline_access")
    done = bank.run("client", "add", "it-authlib", "--secret-stdin", *options, *scopes, "--json", input=SECRET)
    assert done.returncode == 0, done.stderr
    context = ssl.create_default_context(cafile=bank.ca)
    found = httpx.get(f"{bank.status['issuer']}/.well-known/openid-configuration", verify=context)
    yield found.json()
    assert bank.run("client", "delete", "it-authlib").returncode == 0


def client(bank: Running, id: str, secret: Any, **more: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from authlib.integrations.httpx_client import OAuth2Client

    return OAuth2Client(id, secret, verify=ssl.create_default_context(cafile=bank.ca), **more)


def test_a_person_signs_in_and_the_client_refreshes_asks_and_revokes(bank: Running, metadata: dict[str, Any]) -> None:
    person = bank.account("user")
    context = ssl.create_default_context(cafile=bank.ca)
    with (
        client(bank, "it-authlib", SECRET, scope="openid email offline_access", redirect_uri=CALLBACK,
               code_challenge_method="S256") as session,
        httpx.Client(base_url=bank.url, verify=context, timeout=20) as http,
    ):  # fmt: skip
        verifier = "v" * 64
        url, state = session.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier=verifier, nonce="n-1"
        )
        at = sign_in(Browser(http), url, person["email"], person["password"])
        token = session.fetch_token(
            metadata["token_endpoint"], authorization_response=at, code_verifier=verifier, state=state
        )
        keys = KeySet.import_key_set(http.get(metadata["jwks_uri"]).json())
        claims = jwt.decode(token["id_token"], keys, algorithms=["RS256"]).claims
        assert (claims["sub"], claims["aud"], claims["nonce"]) == (person["user_id"], "it-authlib", "n-1")
        assert session.get(metadata["userinfo_endpoint"]).json()["email"] == person["email"]
        renewed = session.refresh_token(metadata["token_endpoint"], refresh_token=token["refresh_token"])
        assert renewed["refresh_token"] != token["refresh_token"]
        seen = session.introspect_token(metadata["introspection_endpoint"], token=renewed["access_token"])
        assert seen.json()["active"] is True
        assert session.revoke_token(metadata["revocation_endpoint"], token=renewed["refresh_token"]).status_code == 200
        seen = session.introspect_token(metadata["introspection_endpoint"], token=renewed["refresh_token"])
        assert seen.json() == {"active": False}


def test_a_program_proves_itself_by_an_assertion(bank: Running, metadata: dict[str, Any], tmp_path: Path) -> None:
    from authlib.oauth2.rfc7523 import PrivateKeyJWT

    key = ECKey.generate_key("P-256", {"kid": "a1", "alg": "ES256"})
    public = tmp_path / "public.jwk"
    public.write_text(json.dumps(key.as_dict(private=False)))
    done = bank.run(
        "client", "add", "it-authlib-robot", "--jwk", str(public), "--grant", "client_credentials", "--json"
    )
    assert done.returncode == 0, done.stderr
    with client(bank, "it-authlib-robot", key, token_endpoint_auth_method="private_key_jwt") as session:
        session.register_client_auth_method(
            PrivateKeyJWT(metadata["token_endpoint"], headers={"kid": "a1"}, alg="ES256")
        )
        assert session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")["access_token"]
    assert bank.run("client", "delete", "it-authlib-robot").returncode == 0
