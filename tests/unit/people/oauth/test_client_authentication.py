"""How clients prove themselves: RFC 6749 section 2.3, RFC 7523, RFC 8705; and what is said to who can't."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.oauth_support import OAuthHarness, basic, claims_of, jws, oauth
from tests.people_harness import GATEWAY, ISSUER

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import Unauthenticated
from rempart.people.oauth.client_authentication import _basic

WORKLOAD = "spiffe://bank.example/payment"
KEYS = {algorithm: SigningKey.generate(algorithm) for algorithm in ("ES256", "EdDSA", "RS256")}
KEYS["PS256"] = SigningKey("pss", "PS256", KEYS["RS256"]._key)


def refused(answer: httpx.Response, error: str = "invalid_client", status: int = 401) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_a_secret_works_in_the_header_or_in_the_form_and_never_in_both() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            in_form = {"client_id": "svc", "client_secret": secret}
            assert (await h.token("client_credentials", basic("svc", secret))).status_code == 200
            assert (await h.token("client_credentials", **in_form)).status_code == 200
            refused(await h.token("client_credentials", basic("svc", secret), **in_form), "invalid_request", 400)
            refused(await h.token("client_credentials", basic("svc", secret), client_id="x"), "invalid_request", 400)

    asyncio.run(scenario())


def test_the_secret_is_kept_as_a_keyed_hash_only() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            for path in ("/clients", "/clients/svc"):
                shown = (await h.people.admin.get(path)).text
                assert secret not in shown
                assert "secret_hash" not in shown
            kept = await h.people.people.oauth.clients.get("svc")
            assert kept is not None
            assert len(kept.secret_hash) == 32
            assert not any(secret in str(event) for event in h.people.recorder.events)

    asyncio.run(scenario())


def test_every_refusal_says_the_same_and_is_recorded_with_the_reason() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.client("svc")
            await h.client("key", jwks=[KEYS["ES256"].public_jwk()])
            await h.client("app", method="none", redirect_uris=["https://app.example/cb"])
            answers = [
                await h.token("client_credentials", basic("svc", "x" * 43)),
                await h.token("client_credentials", basic("nobody", "x" * 43)),
                await h.token("client_credentials", basic("key", "x" * 43)),
                await h.token("client_credentials", client_id="svc"),
                await h.token("client_credentials", client_id="nobody"),
                await h.token("client_credentials", basic("app", "")),
                await h.token("client_credentials"),
                await h.token("client_credentials", **h.assertion("svc", KEYS["ES256"])),
                await h.token("client_credentials", client_id="login"),
            ]
            for answer in answers:
                refused(answer)
            assert len({answer.text for answer in answers}) == 1
            reasons = {event.reason for event in h.events("people.client_refused")}
            assert {"wrong secret", "unknown client"} <= reasons
            assert any(reason.startswith("not its method") for reason in reasons)

    asyncio.run(scenario())


def test_guessing_at_a_secret_is_slowed_down_for_the_guesser_only() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            for _ in range(20):
                refused(await h.token("client_credentials", basic("svc", "wrong" * 8)))
            slowed = await h.token("client_credentials", basic("svc", secret))
            refused(slowed, "slow_down", 429)
            elsewhere = {"x-forwarded-for": "198.51.100.1", **basic("svc", secret)}
            assert (await h.token("client_credentials", elsewhere)).status_code == 200
            h.clock.advance(int(slowed.headers["retry-after"]))
            assert (await h.token("client_credentials", basic("svc", secret))).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("algorithm", KEYS)
def test_an_assertion_proves_a_client_once(algorithm: str) -> None:
    async def scenario() -> None:
        async with oauth() as h:
            key = KEYS[algorithm]
            await h.client("svc", jwks=[key.public_jwk()])
            form = h.assertion("svc", key)
            answer = await h.token("client_credentials", **form)
            assert answer.status_code == 200, answer.text
            assert claims_of(answer.json()["access_token"])["sub"] == "svc"
            refused(await h.token("client_credentials", **form))
            assert (await h.token("client_credentials", client_id="svc", **h.assertion("svc", key))).status_code == 200

    asyncio.run(scenario())


def test_an_assertion_that_breaks_a_rule_is_refused() -> None:
    """RFC 7523 section 3."""
    key, other = KEYS["ES256"], SigningKey.generate("ES256")
    now = 1_700_000_000
    broken: list[dict[str, Any]] = [
        {"aud": "https://other.example"},
        {"aud": [ISSUER, "https://other.example"]},
        {"aud": None},
        {"aud": [ISSUER, ISSUER]},
        {"exp": None},
        {"exp": now},
        {"exp": now + 86400},
        {"exp": "soon"},
        {"exp": True},
        {"nbf": now + 100},
        {"iat": now + 100},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 300},
        {"iss": "other"},
        {"sub": "other"},
        {"iss": None},
        {"header": {"crit": ["exp"]}},
        {"header": {"b64": False}},
        {"header": {"jwk": key.public_jwk()}},
        {"header": {"jku": "https://evil.example/keys"}},
        {"header": {"x5u": "https://evil.example/cert"}},
        {"header": {"alg": "none"}},
        {"header": {"alg": "HS256"}},
        {"header": {"alg": "RS256"}},
        {"header": {"kid": "other"}},
        {"header": {"kid": "../../dev/null"}},
        {"header": {"typ": "at+jwt"}},
        {"header": {"typ": "dpop+jwt"}},
    ]

    async def scenario() -> None:
        async with oauth() as h:
            await h.client("svc", jwks=[key.public_jwk()])
            assert (await h.token("client_credentials", **h.assertion("svc", key))).status_code == 200
            for change in broken:
                answer = await h.token("client_credentials", **h.assertion("svc", key, **change))
                assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), change
            refused(await h.token("client_credentials", **h.assertion("svc", other)))
            good = h.assertion("svc", key)
            refused(
                await h.token("client_credentials", **{**good, "client_assertion_type": "x"}), "invalid_request", 400
            )
            for text in (
                "",
                "a.b",
                "a.b.c",
                "x" * 10000,
                good["client_assertion"][:-4],
                good["client_assertion"] + "A",
            ):
                answer = await h.token("client_credentials", **{**good, "client_assertion": text})
                assert answer.status_code in (400, 401), text

    asyncio.run(scenario())


def test_one_assertion_sent_many_times_at_once_proves_one_request() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.client("svc", jwks=[KEYS["EdDSA"].public_jwk()])
            form = h.assertion("svc", KEYS["EdDSA"])
            answers = await asyncio.gather(*(h.token("client_credentials", **form) for _ in range(8)))
            assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7

    asyncio.run(scenario())


def test_a_workload_is_its_spiffe_id_and_the_gateway_is_nobody() -> None:
    """RFC 8705 section 2.1: the sidecar has verified who the caller is."""

    async def scenario() -> None:
        async with oauth() as h:
            await h.client("payment", spiffe_id=WORKLOAD)
            form = {"client_id": "payment"}
            assert (await h.token("client_credentials", {"x-spiffe-id": WORKLOAD}, **form)).status_code == 200
            for other in ("spiffe://bank.example/wallet", GATEWAY, ""):
                refused(await h.token("client_credentials", {"x-spiffe-id": other}, **form))
            taken = await h.people.admin.post("/clients", json={"id": "all", "spiffe_id": GATEWAY})
            assert taken.status_code == 400

    asyncio.run(scenario())


def test_a_certificate_proves_its_client_and_binds_its_tokens() -> None:
    digest = bytes(range(32))
    thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    certificate = {"x-forwarded-client-cert": f"By=spiffe://bank.example/rempart/people;Hash={digest.hex()};URI=x"}
    inside = {"x-spiffe-id": WORKLOAD, **certificate}

    async def scenario() -> None:
        async with oauth() as h:
            await h.client("svc", certificate=thumbprint, certificate_bound=True)
            form = {"client_id": "svc"}
            answer = await h.token("client_credentials", inside, **form)
            assert answer.status_code == 200, answer.text
            assert claims_of(answer.json()["access_token"])["cnf"] == {"x5t#S256": thumbprint}
            assert answer.json()["token_type"] == "Bearer"
            for headers in (
                {"x-spiffe-id": WORKLOAD},
                {"x-spiffe-id": GATEWAY, **certificate},  # the gateway's own certificate is nobody's proof
                {"x-spiffe-id": WORKLOAD, "x-forwarded-client-cert": "Hash=" + "0" * 64},
                {"x-spiffe-id": WORKLOAD, "x-forwarded-client-cert": f"Hash={'0' * 64},Hash={digest.hex()}"},
            ):
                refused(await h.token("client_credentials", headers, **form))

    asyncio.run(scenario())


def test_what_is_not_a_client_is_not_registered() -> None:
    key = KEYS["ES256"]
    private = key.dump()
    wrong: list[dict[str, Any]] = [
        {"id": ""},
        {"id": "login"},
        {"id": "bank.example"},  # an ID token for it would be for the audience that the gateway accepts
        {"id": "a b"},
        {"id": "x" * 65},
        {"id": "../x"},
        {"redirect_uris": ["http://app.example/cb"]},
        {"redirect_uris": ["https://app.example/cb#x"]},
        {"redirect_uris": ["https://*.example/cb"]},
        {"redirect_uris": ["https://a@app.example/cb"]},
        {"redirect_uris": ["/cb"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["data:text/html,x"]},
        {"redirect_uris": ["https://app.example/\n"]},
        {"redirect_uris": ["https://app.example:bad/"]},
        {"redirect_uris": ["com.example.app:/cb"]},  # an own scheme is for public clients
        {"redirect_uris": ["https://app.example/cb"] * 2},
        {"redirect_uris": [f"https://app.example/{number}" for number in range(17)]},
        {"grants": ["authorization_code"]},
        {"grants": ["refresh_token"]},
        {"grants": ["implicit"]},
        {"grants": ["jwt-bearer"]},
        {"grants": ["client_credentials"], "method": "none"},
        {"grants": ["token-exchange"], "method": "none"},
        {"jwks": [private]},
        {"jwks": [{"kty": "oct", "k": "AAAA"}]},
        {"jwks": [{"kty": "RSA", "n": "AAAA", "e": "AQAB"}]},
        {"jwks": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]},
        {"jwks": [{**key.public_jwk(), "use": "enc"}]},
        {"jwks": [key.public_jwk(), key.public_jwk()]},
        {"jwks": [{}]},
        {"secret": "short"},
        {"scopes": ['a"b']},
        {"scopes": ["a b"]},
        {"access_ttl": 5},
        {"access_ttl": 10**9},
        {"spiffe_id": "spiffe://bank.example"},
        {"spiffe_id": "https://bank.example/x"},
        {"certificate": "x"},
        {"certificate_bound": True},
        {"method": "tls_client_auth"},
        {"method": "client_secret_jwt"},
        {"backchannel_logout_uri": "http://app.example/"},
        {"name": ""},
        {"unknown": 1},
        {"grants": "client_credentials"},
    ]

    async def scenario() -> None:
        async with oauth() as h:
            for fields in wrong:
                answer = await h.people.admin.post("/clients", json={"id": "svc", **fields})
                assert answer.status_code == 400, (fields, answer.text)
            assert (await h.people.admin.get("/clients")).json() == {"clients": []}
            await h.client("svc")
            again = await h.people.admin.post("/clients", json={"id": "svc"})
            assert (again.status_code, again.json()["code"]) == (409, "client_exists")

    asyncio.run(scenario())


def test_a_client_that_is_deleted_is_nobody_and_its_tokens_fall() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            judge = (await h.client("judge", serves=["bank.example"]))["secret"]
            token = (await h.token("client_credentials", basic("svc", secret))).json()["access_token"]
            asked = await h.post("introspect", {"token": token}, basic("judge", judge))
            assert asked.json()["active"] is True
            assert (await h.people.admin.delete("/clients/svc")).status_code == 200
            refused(await h.token("client_credentials", basic("svc", secret)))
            asked = await h.post("introspect", {"token": token}, basic("judge", judge))
            assert asked.json() == {"active": False}
            changes = h.events("people.client_changed")
            assert [(event.before is None, event.after is None) for event in changes[-1:]] == [(False, True)]
            assert (await h.people.admin.delete("/clients/svc")).status_code == 404

    asyncio.run(scenario())


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60)
def test_basic_credentials_are_read_as_the_rfc_writes_them(name: str, secret: str) -> None:
    """RFC 6749 section 2.3.1, appendix B."""
    from urllib.parse import quote_plus

    text = f"{quote_plus(name, errors='replace')}:{quote_plus(secret, errors='replace')}"
    presented = _basic("Basic " + base64.b64encode(text.encode()).decode())
    expected = tuple(part.encode("utf-8", "replace").decode() for part in (name, secret))
    assert (presented.client_id, presented.secret) == expected


@given(st.one_of(st.text(max_size=80), st.binary(max_size=60).map(lambda b: "Basic " + base64.b64encode(b).decode())))
@settings(max_examples=80)
def test_no_authorization_header_raises_anything_else(header: str) -> None:
    with contextlib.suppress(Unauthenticated):
        _basic(header)


def test_any_header_and_payload_of_an_assertion_is_judged_without_a_crash() -> None:
    runner = asyncio.Runner()
    key = KEYS["ES256"]
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )

    async def begin() -> tuple[Any, OAuthHarness]:
        context = oauth()
        h = await context.__aenter__()
        await h.client("svc", jwks=[key.public_jwk()])
        return context, h

    context, h = runner.run(begin())

    @given(
        st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "x"]), values, max_size=4),
        st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "jti", "nbf", "iat"]), values, max_size=7)
        | values,
    )
    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def judged(header: dict[str, Any], claims: Any) -> None:
        assertion = jws(key, {"alg": "ES256", **header}, claims)
        form = {
            "client_assertion_type": h.assertion("svc", key)["client_assertion_type"],
            "client_assertion": assertion,
        }
        answer = runner.run(h.token("client_credentials", **form))
        assert answer.status_code in (400, 401)

    try:
        judged()
    finally:
        runner.run(context.__aexit__(None, None, None))
        runner.close()
