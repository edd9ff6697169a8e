"""The security profile `fapi2`, what the metadata tells under each profile, and dynamic registration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.oauth_support import TOKEN, basic, claims_of, oauth
from tests.people_harness import ISSUER, PASSWORD

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import BadInput

KEY = SigningKey.generate("ES256")
RSA = SigningKey.generate("RS256")
DISCOVERY = "/auth/.well-known/openid-configuration"
FORBIDDEN = ("password", "implicit")


def test_fapi2_registers_no_client_that_is_weaker() -> None:
    """FAPI 2.0 Security Profile section 5.3.2."""
    weaker: list[dict[str, Any]] = [
        {},
        {"secret": "x" * 43},
        {"method": "client_secret_post"},
        {"method": "none", "redirect_uris": ["https://app.example/cb"]},
        {"jwks": [RSA.public_jwk()]},  # RS256: RSASSA-PKCS1-v1_5
        {"jwks": [KEY.public_jwk()], "grants": ["password"]},
    ]

    async def scenario() -> None:
        async with oauth(security_profile="fapi2") as h:
            for fields in weaker:
                answer = await h.people.admin.post("/clients", json={"id": "svc", **fields})
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_client_metadata"), fields
            bare = {name: value for name, value in RSA.public_jwk().items() if name != "alg"}
            await h.client("pss", jwks=[bare])

    asyncio.run(scenario())


def test_fapi2_issues_bound_tokens_only_and_takes_the_issuer_alone_as_audience() -> None:
    async def scenario() -> None:
        async with oauth(security_profile="fapi2") as h:
            await h.client("svc", jwks=[KEY.public_jwk()])
            p = h.prover()

            async def ask(headers: dict[str, str], **changes: Any) -> Any:
                return await h.token("client_credentials", headers, **h.assertion("svc", KEY, **changes))

            unbound = await ask({})
            assert (unbound.status_code, unbound.json()["error"]) == (400, "invalid_dpop_proof")
            first = await ask(p.proof())
            assert (first.status_code, first.json()["error"]) == (400, "use_dpop_nonce")
            p.nonce = first.headers["dpop-nonce"]
            answer = await ask(p.proof())
            assert answer.status_code == 200, answer.text
            assert claims_of(answer.json()["access_token"])["cnf"] == {"jkt": p.jkt}
            for audience in (TOKEN, [ISSUER], [ISSUER, TOKEN]):
                refused = await ask(p.proof(), aud=audience)
                assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    asyncio.run(scenario())


def test_fapi2_signs_with_no_pkcs1_and_tells_the_truth() -> None:
    async def scenario() -> None:
        async with oauth(security_profile="fapi2", signing_algorithm="RS256") as h:
            document = (await h.people.api.get(DISCOVERY)).json()
            assert document["id_token_signing_alg_values_supported"] == ["ES256", "EdDSA"]
            assert document["token_endpoint_auth_methods_supported"] == [
                "private_key_jwt",
                "self_signed_tls_client_auth",
                "tls_client_auth",
            ]
            assert "RS256" not in document["dpop_signing_alg_values_supported"]
            assert "RS256" not in document["token_endpoint_auth_signing_alg_values_supported"]
            assert document["require_pushed_authorization_requests"] is True
            assert not set(FORBIDDEN) & set(document["grant_types_supported"])
            keys = (await h.people.api.get("/auth/jwks.json")).json()["keys"]
            assert {key["alg"] for key in keys} == {"ES256", "EdDSA"}
            await h.people.add("ann@bank.example")
            form = {"username": "ann@bank.example", "password": PASSWORD}
            refused = await h.token("password", basic("svc", "x" * 43), **form)
            assert refused.json()["error"] == "unsupported_grant_type"

    asyncio.run(scenario())


def test_an_unknown_profile_starts_nothing() -> None:
    async def scenario() -> None:
        async with oauth(security_profile="fapi1"):
            raise AssertionError

    with pytest.raises(BadInput, match="security_profile"):
        asyncio.run(scenario())


@pytest.mark.parametrize("profile", ["baseline", "fapi2"])
def test_every_grant_and_endpoint_that_is_told_of_is_there(profile: str) -> None:
    async def scenario() -> None:
        async with oauth(security_profile=profile) as h:
            document = (await h.people.api.get(DISCOVERY)).json()
            others = ["/auth/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/auth"]
            for path in others:
                assert (await h.people.api.get(path)).json() == document
            for grant in document["grant_types_supported"]:
                answer = await h.token(grant, client_id="x")
                assert answer.json()["error"] != "unsupported_grant_type", grant
            for name, url in document.items():
                if name.endswith("_endpoint"):
                    path = url.removeprefix("https://localhost:8443")
                    assert (await h.people.api.get(path)).status_code != 404, name
                    assert (await h.people.api.post(path)).status_code != 404, name
            assert "registration_endpoint" not in document
            assert (await h.people.api.post("/auth/register", json={})).status_code == 404

    asyncio.run(scenario())


GOOD = {"redirect_uris": ["https://app.example/cb"], "client_name": "An app"}


def test_a_client_registers_itself_once_with_an_invitation() -> None:
    """RFC 7591 section 3."""

    async def scenario() -> None:
        async with oauth(client_registration="invited") as h:
            document = (await h.people.api.get(DISCOVERY)).json()
            assert document["registration_endpoint"] == f"{ISSUER}/register"
            token = (await h.people.admin.post("/clients/invitations", json={})).json()["initial_access_token"]
            bearer = {"authorization": f"Bearer {token}"}

            async def register(headers: dict[str, str], **metadata: Any) -> Any:
                return await h.people.api.post("/auth/register", json={**GOOD, **metadata}, headers=headers)

            for headers in ({}, {"authorization": "Bearer x"}, basic("a", "b")):
                refused = await register(headers)
                assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
            for metadata, error in (
                ({"redirect_uris": ["http://app.example/cb"]}, "invalid_redirect_uri"),
                ({"redirect_uris": []}, "invalid_redirect_uri"),
                ({"redirect_uris": "https://app.example/cb"}, "invalid_client_metadata"),
                ({"grant_types": ["password"]}, "invalid_client_metadata"),
                ({"grant_types": ["implicit"]}, "invalid_client_metadata"),
                ({"response_types": ["token"]}, "invalid_client_metadata"),
                ({"scope": "openid session"}, "invalid_client_metadata"),
                ({"token_endpoint_auth_method": "tls_client_auth"}, "invalid_client_metadata"),
                ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
                ({"jwks": {"keys": [KEY.dump()]}, "token_endpoint_auth_method": "private_key_jwt"},
                 "invalid_client_metadata"),
            ):  # fmt: skip
                answer = await register(bearer, **metadata)
                assert (answer.status_code, answer.json()["error"]) == (400, error), metadata
            made = await register(bearer, token_endpoint_auth_method="client_secret_post", software_id="passed over")
            assert made.status_code == 201, made.text
            client = made.json()
            assert client["client_secret_expires_at"] == 0
            assert (await register(bearer)).status_code == 401
            known = (await h.people.admin.get(f"/clients/{client['client_id']}")).json()
            assert (known["registered"], known["consent"], "session" in known["scopes"]) == ("dynamic", True, False)
            form = {"client_id": client["client_id"], "client_secret": client["client_secret"]}
            answer = await h.token("authorization_code", **form, code="x")
            assert answer.json()["error"] in ("invalid_grant", "invalid_request")  # the client itself is known

    asyncio.run(scenario())


def test_an_invitation_ends() -> None:
    async def scenario() -> None:
        async with oauth(client_registration="invited") as h:
            made = await h.people.admin.post("/clients/invitations", json={"ttl": 60})
            h.clock.advance(61)
            bearer = {"authorization": f"Bearer {made.json()['initial_access_token']}"}
            assert (await h.people.api.post("/auth/register", json=GOOD, headers=bearer)).status_code == 401
            for ttl in (1, 10**9):
                assert (await h.people.admin.post("/clients/invitations", json={"ttl": ttl})).status_code == 400
        async with oauth() as h:
            assert (await h.people.admin.post("/clients/invitations", json={})).status_code == 409

    asyncio.run(scenario())
