"""Each client's ID and logout tokens are signed as it is registered: OpenID Connect Registration section 2."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from tests.authorize_support import APP, CALLBACK, ORIGIN, room
from tests.oauth_support import oauth

from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.oauth.model import Client
from rempart.people.oauth.profile import FAPI2


def header_of(token: str) -> dict[str, Any]:
    part = token.partition(".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return header


def registered(algorithm: str) -> Client:
    return msgspec.structs.replace(APP, id_token_signed_response_alg=algorithm)


@pytest.mark.parametrize(("asked", "used"), [("", "RS256"), ("RS256", "RS256"), ("ES256", "ES256"), ("EdDSA", "EdDSA")])
def test_id_and_logout_tokens_are_signed_as_the_client_is_registered(asked: str, used: str) -> None:
    async def scenario() -> None:
        async with room(registered(asked)) as it:
            session = (await it.sign_in()).session
            granted = await it.redeem(await it.code(), registered(asked))
            assert granted.id_token is not None
            token = granted.id_token("the access token")
            assert header_of(token)["alg"] == used
            digest = (hashlib.sha512 if used == "EdDSA" else hashlib.sha256)(b"the access token").digest()
            half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
            assert it.claims(token)["at_hash"] == half
            await it.sessions.end(session.id, "elsewhere", ORIGIN)
            assert await it.authorization.back_channel.deliver() == 1
            assert header_of(it.listener.got[0][1])["alg"] == used

    asyncio.run(scenario())


def test_a_registration_from_before_the_profile_does_not_bring_its_algorithm_back() -> None:
    async def scenario() -> None:
        async with room() as it:
            tokens = IdTokens(it.people.keys, it.clock, FAPI2.signing, issuer="https://i", ttl=300)
            for asked, used in (("", "ES256"), ("RS256", "ES256"), ("EdDSA", "EdDSA")):
                token = tokens.logout(registered(asked), "usr_1", "ses_1")
                assert header_of(token)["alg"] == used

    asyncio.run(scenario())


def test_an_algorithm_that_we_dont_sign_with_is_not_registered() -> None:
    async def scenario() -> None:
        for profile, refused in (("baseline", "HS256"), ("baseline", "none"), ("fapi2", "RS256")):
            async with oauth(security_profile=profile) as h:
                answer = await h.people.admin.post(
                    "/clients",
                    json={
                        "id": "app",
                        "redirect_uris": [CALLBACK],
                        "spiffe_id": "spiffe://bank.example/app",
                        "id_token_signed_response_alg": refused,
                    },
                )
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_client_metadata"), answer.text
                assert "ID tokens" in answer.json()["detail"]

    asyncio.run(scenario())


def test_a_client_that_registers_itself_says_it_and_is_told() -> None:
    async def scenario() -> None:
        async with oauth(client_registration="invited") as h:
            invited = await h.people.admin.post("/clients/invitations", json={})
            bearer = {"authorization": f"Bearer {invited.json()['initial_access_token']}"}
            asked = {"redirect_uris": [CALLBACK], "id_token_signed_response_alg": "EdDSA"}
            answer = await h.people.api.post("/auth/register", json=asked, headers=bearer)
            assert answer.status_code == 201, answer.text
            assert answer.json()["id_token_signed_response_alg"] == "EdDSA"
            document = (await h.people.api.get("/auth/.well-known/openid-configuration")).json()
            assert document["id_token_signing_alg_values_supported"] == ["RS256", "ES256", "EdDSA"]

    asyncio.run(scenario())
