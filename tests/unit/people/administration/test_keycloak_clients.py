"""Clients of a Keycloak realm: what can be kept is kept, what would be weaker is left behind and said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oauth_support import basic, oauth

from rempart.kernel.errors import BadInput
from rempart.people.administration.keycloak import Found
from rempart.people.administration.keycloak_clients import read_clients

RECORDED = Path(__file__).parents[3] / "vectors" / "keycloak" / "realm.json"
WEB = {
    "clientId": "web",
    "secret": "s" * 32,
    "redirectUris": ["https://web.example/cb"],
    "standardFlowEnabled": True,
    "defaultClientScopes": ["web-origins", "profile", "email", "billing"],
}


def one(**changes: Any) -> Found:
    (found,) = read_clients(json.dumps({"clients": [{**WEB, **changes}]}))
    return found


def kept(**changes: Any) -> dict[str, Any]:
    found = one(**changes)
    assert found.account is not None, found.error
    return found.account


def test_the_clients_of_a_real_export_go_on_with_their_ids_and_secrets() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            found = {one.name: one for one in read_clients(RECORDED.read_text())}
            assert sorted(found) == ["page", "robot", "shop"]
            for one in found.values():
                assert (await h.people.admin.post("/clients", json=one.account)).status_code == 201, one
            answer = await h.token("client_credentials", basic("robot", "robot-secret-of-a-test"))
            assert answer.status_code == 200, answer.text
            shop = (await h.people.admin.get("/clients/shop")).json()
            assert shop["redirect_uris"] == shop["post_logout_redirect_uris"] == ["https://shop.example/callback"]
            assert shop["grants"][:2] == ["authorization_code", "refresh_token"]
            assert (await h.people.admin.get("/clients/page")).json()["method"] == "none"

    asyncio.run(scenario())


def test_flows_and_attributes_become_what_they_are_here() -> None:
    said = {
        "oauth2.device.authorization.grant.enabled": "true",
        "standard.token.exchange.enabled": "true",
        "access.token.lifespan": "300",
        "dpop.bound.access.tokens": "true",
        "backchannel.logout.url": "https://web.example/logout",
        "post.logout.redirect.uris": "https://web.example/a##https://web.example/b",
    }
    document = kept(attributes=said, serviceAccountsEnabled=True, consentRequired=True, name="The web")
    assert [grant.rpartition(":")[2] for grant in document["grants"]] == [
        *("authorization_code", "device_code", "refresh_token", "client_credentials", "token-exchange")
    ]
    assert document["scopes"] == ["openid", "profile", "email", "billing"]
    assert (document["access_ttl"], document["dpop_bound"], document["consent"]) == (300, True, True)
    assert document["backchannel_logout_uri"] == "https://web.example/logout"
    assert document["post_logout_redirect_uris"] == ["https://web.example/a", "https://web.example/b"]
    keys = {"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}]}
    by_key = kept(clientAuthenticatorType="client-jwt", attributes={"jwks.string": json.dumps(keys)})
    assert (by_key["jwks"], "secret" in by_key) == (keys["keys"], False)
    by_name = kept(clientAuthenticatorType="client-x509", attributes={"x509.subjectdn": "CN=web,O=Example"})
    assert by_name["certificate_subject"] == "dn:CN=web,O=Example"


def test_what_would_be_weaker_is_left_behind_and_said() -> None:
    found = one(
        redirectUris=["https://web.example/*", "*", "http://web.example/cb", "https://web.example/cb", "/relative"],
        rootUrl="https://web.example",
        implicitFlowEnabled=True,
        directAccessGrantsEnabled=True,
        secret="**********",
        protocolMappers=[{"name": "x"}],
    )
    assert found.account is not None
    assert found.account["redirect_uris"] == ["https://web.example/cb", "https://web.example/relative"]
    assert "secret" not in found.account
    assert "password" not in found.account["grants"]
    assert [note.split(" ")[0] for note in found.notes] == [
        *("the", "the", "its", "'https://web.example/*'", "'*'", "'http://web.example/cb'", "its")
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"protocol": "saml"}, "SAML"),
        ({"enabled": False}, "disabled"),
        ({"redirectUris": ["https://web.example/*"]}, "no redirect URI"),
        ({"bearerOnly": True}, "no flow"),
        ({"standardFlowEnabled": False}, "no flow"),
        ({"clientAuthenticatorType": "client-jwt"}, "client-jwt"),
        ({"clientAuthenticatorType": "client-secret-jwt"}, "client-secret-jwt"),
        ({"attributes": {"access.token.lifespan": "soon"}}, "not understood"),
        ({"redirectUris": [1]}, "not understood"),
    ],
)
def test_what_can_not_be_kept_is_refused_with_the_reason(changes: dict[str, Any], why: str) -> None:
    found = one(**changes)
    assert found.account is None
    assert why in found.error


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"clients": 1}', '{"clients": [{}]}', '{"clients": ["x"]}'])
def test_what_is_no_realm_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        read_clients(text)


@given(st.dictionaries(st.sampled_from([*WEB, "attributes", "publicClient"]), st.none() | st.text() | st.integers()))
@settings(max_examples=100, deadline=None)
def test_any_client_is_judged(changes: dict[str, Any]) -> None:
    changes["clientId"] = "web"
    found = one(**changes)
    assert (found.account is None) == bool(found.error)
