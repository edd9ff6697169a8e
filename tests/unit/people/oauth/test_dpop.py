"""Proofs of possession (RFC 9449): what a proof must be, where it counts, and what a bound token is worth without."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.oauth_support import TOKEN, basic, claims_of, jws, oauth, public
from tests.people_harness import ISSUER

from rempart.crypto.jose import SigningKey

USERINFO = f"{ISSUER}/userinfo"
NOW = 1_700_000_000


def refused(answer: httpx.Response, error: str = "invalid_dpop_proof") -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text
    assert answer.headers["dpop-nonce"]


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256", "PS256"])
def test_a_proof_binds_the_token_to_its_key(algorithm: str) -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            p = h.prover("RS256" if algorithm == "PS256" else algorithm)
            p.key = SigningKey(p.key.kid, algorithm, p.key._key)
            answer = await h.token("client_credentials", {**basic("svc", secret), **p.proof()})
            assert answer.json()["token_type"] == "DPoP"
            assert claims_of(answer.json()["access_token"])["cnf"] == {"jkt": p.jkt}
            asked = await h.post("introspect", {"token": answer.json()["access_token"]}, basic("svc", secret))
            assert (asked.json()["token_type"], asked.json()["cnf"]) == ("DPoP", {"jkt": p.jkt})

    asyncio.run(scenario())


def test_a_proof_that_breaks_a_rule_is_refused() -> None:
    """RFC 9449 section 4.3."""
    key, other = SigningKey.generate("ES256"), SigningKey.generate("ES256")
    broken: list[dict[str, Any]] = [
        {"htm": "GET"},
        {"htm": "post"},
        {"htm": None},
        {"htu": f"{ISSUER}/par"},
        {"htu": "http://localhost:8443/auth/token"},
        {"htu": "https://localhost/auth/token"},
        {"htu": "https://localhost:8443/auth/token/"},
        {"htu": "https://user@localhost:8443/auth/token"},
        {"htu": "https://localhost:99999/auth/token"},
        {"htu": 7},
        {"htu": None},
        {"iat": NOW - 61},
        {"iat": NOW + 16},
        {"iat": None},
        {"iat": "now"},
        {"iat": True},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": 5},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": None}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"alg": "RS256"}},
        {"header": {"jwk": None}},
        {"header": {"jwk": key.dump()}},
        {"header": {"jwk": {"kty": "oct", "k": "AAAA"}}},
        {"header": {"jwk": public(other)}},
        {"header": {"jwk": {**public(key), "x": "AA"}}},
        {"header": {"jwk": "x"}},
        {"header": {"kid": "x"}},
        {"header": {"crit": ["jwk"]}},
        {"header": {"jku": "https://evil.example"}},
    ]

    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            p = h.prover()
            p.key = key
            for change in broken:
                answer = await h.token("client_credentials", {**basic("svc", secret), **p.proof(**change)})
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), change
            for text in ("", "x", "a.b.c", "ä", p.proof()["dpop"] + "A"):
                refused(await h.token("client_credentials", {**basic("svc", secret), "dpop": text.encode()}))
            for htu in (f"{TOKEN}?a=b", f"{TOKEN}#x", TOKEN.replace("https://localhost", "HTTPS://LOCALHOST")):
                answer = await h.token("client_credentials", {**basic("svc", secret), **p.proof(htu=htu)})
                assert answer.status_code == 200, htu  # section 4.3, point 9

    asyncio.run(scenario())


def test_two_proofs_in_one_request_are_refused() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            p = h.prover()
            headers = [
                ("content-type", "application/x-www-form-urlencoded"),
                *basic("svc", secret).items(),
                ("dpop", p.proof()["dpop"]),
                ("dpop", p.proof()["dpop"]),
            ]
            refused(await h.people.api.post("/auth/token", content=b"grant_type=client_credentials", headers=headers))

    asyncio.run(scenario())


def test_a_proof_counts_once_even_in_parallel() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            headers = {**basic("svc", secret), **h.prover().proof()}
            answers = await asyncio.gather(*(h.token("client_credentials", headers) for _ in range(8)))
            assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7

    asyncio.run(scenario())


def test_nonces_are_offered_rotate_and_a_foreign_one_is_none() -> None:
    """Section 8."""

    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            p = h.prover()
            first = (await h.token("client_credentials", {**basic("svc", secret), **p.proof()})).headers["dpop-nonce"]
            p.nonce = first
            for wait, expected in ((0, 200), (60, 200), (61, 400)):
                h.clock.advance(wait)
                answer = await h.token("client_credentials", {**basic("svc", secret), **p.proof()})
                assert answer.status_code == expected
            assert answer.json()["error"] == "use_dpop_nonce"
            assert answer.headers["dpop-nonce"] != first
            for foreign in ("", "x", "A" * 32, first[:-1] + "~"):
                p.nonce = foreign
                answer = await h.token("client_credentials", {**basic("svc", secret), **p.proof()})
                refused(answer, "use_dpop_nonce")

    asyncio.run(scenario())


def test_a_client_that_must_prove_a_key_gets_nothing_without() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc", dpop_bound=True))["secret"]
            answer = await h.token("client_credentials", basic("svc", secret))
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
            headers = {**basic("svc", secret), **h.prover().proof()}
            assert (await h.token("client_credentials", headers)).status_code == 200

    asyncio.run(scenario())


def test_a_bound_token_opens_userinfo_with_its_key_only() -> None:
    """Section 7."""

    async def scenario() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            await h.client("shop", method="none", grants=["password"], scopes=["openid", "profile"])
            p, thief = h.prover(), h.prover()
            form = {"client_id": "shop", "username": "ann@bank.example", "password": "a quiet river of glass 42"}
            answer = await h.token("password", p.proof(), scope="openid", **form)
            assert answer.status_code == 200, answer.text
            token = answer.json()["access_token"]

            async def ask(scheme: str, proof: dict[str, str]) -> httpx.Response:
                headers = {"authorization": f"{scheme} {token}", **proof}
                return await h.people.api.get("/auth/userinfo", headers=headers)

            def proof(of: Any = p, **changes: Any) -> dict[str, str]:
                return dict(of.proof("GET", USERINFO, **{"access_token": token, **changes}))

            assert (await ask("DPoP", proof())).status_code == 200
            once = proof()
            assert (await ask("DPoP", once)).status_code == 200
            for answer in (
                await ask("Bearer", {}),
                await ask("Bearer", proof()),
                await ask("DPoP", {}),
                await ask("DPoP", once),
                await ask("DPoP", proof(thief)),
                await ask("DPoP", proof(access_token=token[:-1])),
                await ask("DPoP", proof(access_token=None)),
                await ask("DPoP", p.proof("POST", USERINFO, access_token=token)),
                await ask("DPoP", p.proof("GET", TOKEN, access_token=token)),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"]
            plain = (await h.session())["access_token"]
            headers = {"authorization": f"DPoP {plain}", **p.proof("GET", USERINFO, access_token=plain)}
            assert (await h.people.api.get("/auth/userinfo", headers=headers)).status_code == 401

    asyncio.run(scenario())


def test_a_public_clients_refresh_token_keeps_its_key() -> None:
    """Section 5: for a public client the key is all that proves it."""

    async def scenario() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            flows = ["password", "refresh_token"]
            await h.client("app", method="none", grants=flows, scopes=["openid"])
            secret = (await h.client("web", grants=flows, scopes=["openid"]))["secret"]
            form = {"username": "ann@bank.example", "password": "a quiet river of glass 42"}
            p, thief = h.prover(), h.prover()
            token = (await h.token("password", p.proof(), client_id="app", **form)).json()["refresh_token"]
            for headers in ({}, thief.proof()):
                answer = await h.token("refresh_token", headers, client_id="app", refresh_token=token)
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
            answer = await h.token("refresh_token", p.proof(), client_id="app", refresh_token=token)
            assert claims_of(answer.json()["access_token"])["cnf"] == {"jkt": p.jkt}
            web = (await h.token("password", {**p.proof(), **basic("web", secret)}, **form)).json()["refresh_token"]
            answer = await h.token("refresh_token", {**thief.proof(), **basic("web", secret)}, refresh_token=web)
            assert answer.status_code == 200  # a confidential client proves itself, and may change its key

    asyncio.run(scenario())


def test_any_proof_is_judged_without_a_crash() -> None:
    runner = asyncio.Runner()
    key = SigningKey.generate("ES256")
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )

    async def begin() -> tuple[Any, Any, str]:
        context = oauth()
        h = await context.__aenter__()
        return context, h, (await h.client("svc"))["secret"]

    context, h, secret = runner.run(begin())
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public(key)}
    claims = {"jti": "j", "htm": "POST", "htu": TOKEN, "iat": NOW}

    @given(
        st.dictionaries(st.sampled_from([*header, "crit", "kid"]), values, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from([*claims, "ath", "nonce"]), values, max_size=3) | values,
        st.booleans(),
    )
    @settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def judged(headers: dict[str, Any], payload: Any, whole: bool) -> None:
        changed = {**header, **headers} if whole else header
        body = {**claims, **payload} if isinstance(payload, dict) else payload
        proof = {"dpop": jws(key, changed, body)}
        answer = runner.run(h.token("client_credentials", {**basic("svc", secret), **proof}))
        assert answer.status_code in (200, 400)

    try:
        judged()
    finally:
        runner.run(context.__aexit__(None, None, None))
        runner.close()
