"""The whole flow under `security_profile = "fapi2"`: pushed, bound to a key, proved at each step (FAPI 2.0, 5.3.2)."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import httpx
from tests.authorize_support import CALLBACK, VERIFIER, right_request
from tests.oauth_support import OAuthHarness, Prover, claims_of, oauth
from tests.people_harness import ISSUER, came_from

from rempart.crypto.jose import SigningKey
from rempart.people.model import Authenticated, Origin
from rempart.people.sessions.cookies import SESSION_COOKIE
from rempart.people.sessions.model import Kind

KEY = SigningKey.generate("ES256")
REQUEST = {name: value for name, value in right_request().items() if value} | {"scope": "openid offline_access"}


async def sign_in(h: OAuthHarness) -> None:
    account = (await h.people.add("ann@bank.example"))["id"]
    found = await h.people.people.store.get(account)
    assert found is not None
    who = Authenticated(account=found, amr=("pwd",), auth_time=h.clock.now())
    origin = Origin(ip="203.0.113.7", workload=came_from("203.0.113.7")["x-spiffe-id"])
    opened = await h.people.people.sessions.open(who, Kind.WEB, origin)
    h.people.api.cookies.set(SESSION_COOKIE, opened.token)


async def authorize(h: OAuthHarness, **parameters: str) -> httpx.Response:
    return await h.people.api.get("/auth/authorize", params=parameters, headers=came_from("203.0.113.7"))


async def push(h: OAuthHarness, prover: Prover) -> httpx.Response:
    """Twice where the nonce is asked for."""
    for _ in range(2):
        proof = prover.proof(url=f"{ISSUER}/par")
        answer = await h.post("par", {**REQUEST, **h.assertion("app", KEY)}, proof)
        if answer.status_code != 400:
            return answer
        assert answer.json()["error"] == "use_dpop_nonce"
        prover.nonce = answer.headers["dpop-nonce"]
    return answer


def test_the_whole_flow_under_the_strict_profile() -> None:
    async def scenario() -> None:
        async with oauth(security_profile="fapi2") as h:
            await h.client(
                "app", jwks=[KEY.public_jwk()], redirect_uris=[CALLBACK], scopes=["openid", "offline_access"]
            )
            await sign_in(h)
            refused = await authorize(h, **REQUEST)
            assert "error=invalid_request" in refused.headers["location"]
            thief, prover = h.prover(), h.prover()
            pushed = await push(h, prover)
            assert pushed.status_code == 201, pushed.text
            answer = await authorize(h, client_id="app", request_uri=pushed.json()["request_uri"])
            parameters = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
            assert parameters["iss"] == ISSUER
            form = {"code": parameters["code"], "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
            bare = await h.token("authorization_code", **form, **h.assertion("app", KEY))
            assert bare.json()["error"] == "invalid_dpop_proof"  # and the code is not used up by that
            tokens = await h.token("authorization_code", prover.proof(), **form, **h.assertion("app", KEY))
            assert (tokens.status_code, tokens.json()["token_type"]) == (200, "DPoP"), tokens.text
            access = tokens.json()["access_token"]
            assert claims_of(access)["cnf"] == {"jkt": prover.jkt}
            identity = claims_of(tokens.json()["id_token"])
            assert (identity["aud"], identity["nonce"]) == ("app", "n-1")
            url = f"{ISSUER}/userinfo"
            for whose, status in ((thief, 401), (prover, 200)):
                whose.nonce = prover.nonce
                proof = whose.proof("GET", url, access_token=access)
                headers = {**came_from("203.0.113.7"), **proof, "authorization": f"DPoP {access}"}
                assert (await h.people.api.get("/auth/userinfo", headers=headers)).status_code == status
            bearer = {**came_from("203.0.113.7"), "authorization": f"Bearer {access}"}
            assert (await h.people.api.get("/auth/userinfo", headers=bearer)).status_code == 401

    asyncio.run(scenario())


def test_a_code_that_a_key_pushed_is_redeemed_by_no_other_key() -> None:
    async def scenario() -> None:
        async with oauth(security_profile="fapi2") as h:
            await h.client(
                "app", jwks=[KEY.public_jwk()], redirect_uris=[CALLBACK], scopes=["openid", "offline_access"]
            )
            await sign_in(h)
            thief, prover = h.prover(), h.prover()
            pushed = await push(h, prover)
            answer = await authorize(h, client_id="app", request_uri=pushed.json()["request_uri"])
            code = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
            thief.nonce = prover.nonce
            form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
            stolen = await h.token("authorization_code", thief.proof(), **form, **h.assertion("app", KEY))
            assert stolen.json()["error"] == "invalid_grant"

    asyncio.run(scenario())
