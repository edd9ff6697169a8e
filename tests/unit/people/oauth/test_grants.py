"""The token endpoint's own grants: what each gives, and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.oauth_support import (
    ACCESS_TOKEN,
    EXCHANGE,
    JWT_BEARER,
    OAuthHarness,
    basic,
    claims_of,
    jws,
    oauth,
)
from tests.people_harness import ISSUER, PASSWORD

from rempart.crypto.jose import Jwks, SigningKey
from rempart.kernel.errors import Unavailable

PAYMENT = "spiffe://bank.example/payment"
AS_PAYMENT = {"x-spiffe-id": PAYMENT}


def refused(answer: httpx.Response, error: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text


def test_client_credentials_speak_for_the_client_alone() -> None:
    """RFC 9068 section 2.2: `sub` is the client; no role, no session, no refresh token."""

    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc", scopes=["read", "write", "openid", "session"], access_ttl=120))["secret"]
            answer = (await h.token("client_credentials", basic("svc", secret))).json()
            assert (answer["expires_in"], answer["scope"], "refresh_token" in answer) == (120, "read write", False)
            claims = claims_of(answer["access_token"])
            assert (claims["sub"], claims["client_id"], claims["aud"]) == ("svc", "svc", "bank.example")
            assert claims["exp"] - claims["iat"] == 120
            assert not {"role", "sid", "epoch", "amr", "auth_time", "payment_limit"} & set(claims)
            narrow = await h.token("client_credentials", basic("svc", secret), scope="write")
            assert narrow.json()["scope"] == "write"
            assert (await h.token("client_credentials", basic("svc", secret), scope="")).json()["scope"] == "read write"
            for scope in ("admin", "read admin", " ", "read  write", "openid", "session", "READ"):
                refused(await h.token("client_credentials", basic("svc", secret), scope=scope), "invalid_scope")
            issued = h.events("people.token_issued")
            assert [event.details["client"] for event in issued] == ["svc", "svc", "svc"]

    asyncio.run(scenario())


def test_a_client_has_tokens_for_its_audiences_only() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc", audiences=["https://api.example", "bank.example"]))["secret"]
            plain = (await h.client("plain"))["secret"]

            async def audience(**form: str) -> Any:
                answer = await h.token("client_credentials", basic("svc", secret), **form)
                assert answer.status_code == 200, answer.text
                return claims_of(answer.json()["access_token"])["aud"]

            assert await audience() == "https://api.example"
            assert await audience(resource="bank.example") == "bank.example"
            assert await audience(audience="https://api.example") == "https://api.example"
            for form in ({"audience": "other"}, {"resource": " "}, {"audience": "bank.example", "resource": "x"}):
                refused(await h.token("client_credentials", basic("svc", secret), **form), "invalid_target")
            refused(
                await h.token("client_credentials", basic("plain", plain), audience="https://api.example"),
                "invalid_target",
            )

    asyncio.run(scenario())


def test_a_grant_type_must_be_known_enabled_and_the_clients() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            for grant in ("implicit", "CLIENT_CREDENTIALS", "urn:x", "refresh_token "):
                refused(await h.token(grant, basic("svc", secret)), "unsupported_grant_type")
            refused(await h.post("token", {"scope": "x"}, basic("svc", secret)), "invalid_request")
            for grant in ("refresh_token", "password", EXCHANGE, "authorization_code"):
                refused(await h.token(grant, basic("svc", secret), refresh_token="x"), "unauthorized_client")
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(h.people.people.metrics), base_url="http://p"
            ) as metrics:
                page = (await metrics.get("/metrics")).text
            assert 'rempart_people_tokens_total{grant="token-exchange",outcome="refused"} 1.0' in page
            refusals = h.events("people.token_refused")
            assert {event.details["client"] for event in refusals} == {"svc"}

    asyncio.run(scenario())


def test_nothing_is_issued_that_is_not_recorded() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = (await h.client("svc"))["secret"]
            h.people.recorder.failing = Unavailable("journal_unavailable", "full")
            refused(await h.token("client_credentials", basic("svc", secret)), "temporarily_unavailable", 503)
            refused(await h.token("client_credentials", basic("svc", "x" * 40)), "temporarily_unavailable", 503)

    asyncio.run(scenario())


async def _shop(h: OAuthHarness, **more: Any) -> str:
    await h.people.add("ann@bank.example")
    fields = {"grants": ["password", "refresh_token"], "scopes": ["openid", "profile", "session"], **more}
    return str((await h.client("shop", **fields))["secret"])


def test_the_password_grant_is_for_clients_that_have_it() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            before = (await h.people.api.get("/auth/.well-known/openid-configuration")).json()
            assert "password" not in before["grant_types_supported"]
            secret = await _shop(h)
            good = {"username": "ann@bank.example", "password": PASSWORD, "scope": "profile"}
            answer = await h.token("password", basic("shop", secret), **good)
            claims = claims_of(answer.json()["access_token"])
            assert (claims["client_id"], claims["scope"], claims["amr"]) == ("shop", "profile", ["pwd"])
            assert "role" not in claims  # scope session alone carries it
            first_party = await h.token("password", basic("shop", secret), **{**good, "scope": "session"})
            assert claims_of(first_party.json()["access_token"])["role"] == "user"
            wrong = [
                {**good, "password": "wrong"},
                {**good, "username": "nobody@bank.example"},
                {**good, "username": "x" * 400},
            ]
            answers = [await h.token("password", basic("shop", secret), **form) for form in wrong]
            for answer in answers:
                refused(answer, "invalid_grant")
            assert len({answer.text for answer in answers}) == 1
            refused(await h.token("password", basic("shop", secret), username="ann@bank.example"), "invalid_request")
            after = (await h.people.api.get("/auth/.well-known/openid-configuration")).json()
            assert "password" in after["grant_types_supported"]

    asyncio.run(scenario())


def test_a_refresh_token_is_its_clients_and_narrows_but_never_widens() -> None:
    """RFC 6749 section 6."""

    async def scenario() -> None:
        async with oauth() as h:
            secret = await _shop(h)
            other = (await h.client("other", grants=["password", "refresh_token"], scopes=["openid"]))["secret"]
            login = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid profile"}
            token = (await h.token("password", basic("shop", secret), **login)).json()["refresh_token"]
            own = (await h.session())["refresh_token"]
            for headers, presented in (
                (basic("other", other), token),
                ({}, token),  # no client named: that is who logged in without one
                (basic("shop", secret), own),
            ):
                refused(await h.token("refresh_token", headers, refresh_token=presented), "invalid_grant")
            wide = await h.token("refresh_token", basic("shop", secret), refresh_token=token, scope="openid session")
            refused(wide, "invalid_scope")
            narrow = await h.token("refresh_token", basic("shop", secret), refresh_token=token, scope="openid")
            assert narrow.json()["scope"] == "openid"  # and the request for too much had not cost the token
            token = narrow.json()["refresh_token"]
            whole = await h.token("refresh_token", basic("shop", secret), refresh_token=token)
            assert whole.json()["scope"] == "openid profile"
            assert h.events("people.token_reused") == []

    asyncio.run(scenario())


def test_a_client_refreshes_for_as_long_as_it_is_registered_for() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            await h.people.add("ann@bank.example")
            more = {"grants": ["password", "refresh_token"], "scopes": ["openid"], "secret": "a secret of sixteen"}
            login = {"username": "ann@bank.example", "password": PASSWORD, "scope": "openid"}
            for client, ttl, alive, over in (("brief", 120, 100, 30), ("usual", None, 7 * 86400 - 60, 120)):
                await h.client(client, refresh_ttl=ttl, access_ttl=60, **more)
                who = basic(client, "a secret of sixteen")
                token = (await h.token("password", who, **login)).json()["refresh_token"]
                h.clock.advance(alive)
                answer = await h.token("refresh_token", who, refresh_token=token)
                assert answer.status_code == 200, answer.text
                h.clock.advance(over)  # counted from the sign-in, not from the last refresh
                late = await h.token("refresh_token", who, refresh_token=answer.json()["refresh_token"])
                assert (late.status_code, late.json()["error"]) == (400, "invalid_grant")
            for ttl in (59, 366 * 86400 + 1):
                body = {"id": "odd", "refresh_ttl": ttl, **more}
                assert (await h.people.admin.post("/clients", json=body)).status_code == 400

    asyncio.run(scenario())


def test_without_the_refresh_grant_there_is_no_refresh_token() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            secret = await _shop(h, grants=["password"])
            login = {"username": "ann@bank.example", "password": PASSWORD}
            assert "refresh_token" not in (await h.token("password", basic("shop", secret), **login)).json()

    asyncio.run(scenario())


async def _payment(h: OAuthHarness, **more: Any) -> str:
    fields: dict[str, Any] = {"spiffe_id": PAYMENT, "grants": ["token-exchange"], "scopes": ["session"], **more}
    await h.client("payment", **fields)
    return str((await h.session())["access_token"])


async def _exchange(h: OAuthHarness, token: str, **form: str) -> httpx.Response:
    asked = {"client_id": "payment", "subject_token": token, "subject_token_type": ACCESS_TOKEN, **form}
    return await h.token(EXCHANGE, AS_PAYMENT, **asked)


def test_a_service_acts_for_the_person_and_says_so() -> None:
    """RFC 8693 sections 2 and 4.1."""

    async def scenario() -> None:
        async with oauth() as h:
            token = await _payment(h)
            before = claims_of(token)
            h.clock.advance(600)
            answer = await _exchange(h, token)
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert (document["issued_token_type"], document["expires_in"]) == (ACCESS_TOKEN, 3000)
            claims = claims_of(document["access_token"])
            kept = ("sub", "role", "amr", "auth_time", "sid", "epoch", "exp")
            assert [claims[name] for name in kept] == [before[name] for name in kept]
            assert (claims["client_id"], claims["act"]) == ("payment", {"sub": PAYMENT, "client_id": "payment"})
            bearer = {"authorization": f"Bearer {document['access_token']}"}
            for path in ("/auth/factors", "/auth/admin/users"):
                assert (await h.people.api.get(path, headers=bearer)).status_code in (401, 403)
            again = claims_of((await _exchange(h, document["access_token"])).json()["access_token"])
            assert again["act"]["act"] == {"sub": PAYMENT, "client_id": "payment"}
            assert h.events("people.token_issued")[0].details["actor"]["sub"] == PAYMENT

    asyncio.run(scenario())


def test_an_exchange_gives_no_more_than_both_have() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            token = await _payment(h, audiences=["https://wallet.example"], scopes=["pay"])
            answer = await _exchange(h, token)
            claims = claims_of(answer.json()["access_token"])
            assert (claims["scope"], claims["aud"]) == ("", "https://wallet.example")
            assert "role" not in claims
            refused(await _exchange(h, token, scope="pay"), "invalid_scope")
            refused(await _exchange(h, token, scope="session"), "invalid_scope")
            refused(await _exchange(h, token, audience="bank.example"), "invalid_target")
            # what is for the wallet is not for payment: it can't be exchanged again by it
            refused(await _exchange(h, answer.json()["access_token"]), "invalid_request")

    asyncio.run(scenario())


def test_what_is_no_living_token_of_a_person_is_not_exchanged() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            token = await _payment(h)
            svc = (await h.client("svc"))["secret"]
            own = (await h.token("client_credentials", basic("svc", svc))).json()["access_token"]
            for subject in (own, "x", token[:-2], token + "A", ""):
                answer = await _exchange(h, subject)
                assert answer.json()["error"] == "invalid_request", subject  # RFC 8693 section 2.2.2
            refused(await _exchange(h, token, subject_token_type="urn:x"), "invalid_request")
            refused(await _exchange(h, token, requested_token_type="urn:x"), "invalid_request")
            refused(await _exchange(h, token, actor_token=own, actor_token_type=ACCESS_TOKEN), "invalid_request")
            account = claims_of(token)["sub"]
            await h.people.admin.post(f"/users/{account}/revoke", json={})
            refused(await _exchange(h, token), "invalid_request")
            fresh = (await h.session())["access_token"]
            assert (await _exchange(h, fresh)).status_code == 200
            await h.people.admin.patch(f"/users/{account}", json={"role": "finance"})
            refused(await _exchange(h, fresh), "invalid_request")

    asyncio.run(scenario())


def test_a_chain_of_actors_is_bounded() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            token = await _payment(h)
            for _ in range(4):
                token = (await _exchange(h, token)).json()["access_token"]
            refused(await _exchange(h, token), "invalid_request")

    asyncio.run(scenario())


class Bundle:
    def __init__(self, *keys: SigningKey) -> None:
        self.keys = keys

    async def jwks(self) -> Jwks:
        return Jwks.of(*self.keys)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> SigningKey:
    """The trust domain's JWT key; the process is composed as if it had the Workload API."""
    from rempart.servers import people

    key = SigningKey.generate("ES256")
    real = people.compose_oauth
    monkeypatch.setattr(people, "compose_oauth", lambda *a, **more: real(*a, **{**more, "bundle": Bundle(key)}))
    return key


def test_a_jwt_svid_buys_an_access_token(bundle: SigningKey) -> None:
    """RFC 7523 section 2.1; JWT-SVID section 4."""

    async def scenario() -> None:
        async with oauth() as h:
            fields: dict[str, Any] = {"grants": ["jwt-bearer"], "scopes": ["pay"]}
            await h.client("payment", spiffe_id=PAYMENT, **fields)

            def svid(key: SigningKey = bundle, **changes: Any) -> str:
                header = {"alg": "ES256", "kid": bundle.kid, "typ": "JWT", **changes.pop("header", {})}
                claims = {"sub": PAYMENT, "aud": [ISSUER], "exp": int(h.clock.now()) + 300, **changes}
                return jws(key, header, {name: value for name, value in claims.items() if value is not None})

            for form in ({}, {"client_id": "payment"}):
                headers = AS_PAYMENT if form else {}
                answer = await h.token(JWT_BEARER, headers, assertion=svid(), **form)
                assert answer.status_code == 200, answer.text
                claims = claims_of(answer.json()["access_token"])
                assert (claims["sub"], claims["client_id"], claims["scope"]) == ("payment", "payment", "pay")
            stranger = SigningKey.generate("ES256")
            for assertion in (
                svid(stranger),
                svid(aud=["other"]),
                svid(aud=[ISSUER, "other"]),
                svid(exp=int(h.clock.now()) - 60),
                svid(exp=None),
                svid(sub="spiffe://bank.example/wallet"),
                svid(sub="payment"),
                svid(header={"typ": "at+jwt"}),
                svid(header={"alg": "none"}),
                "x",
                "",
            ):
                answer = await h.token(JWT_BEARER, assertion=assertion)
                assert answer.status_code in (400, 401), assertion

    asyncio.run(scenario())


def test_without_a_trust_bundle_there_is_no_such_grant() -> None:
    async def scenario() -> None:
        async with oauth() as h:
            refused(await h.token(JWT_BEARER, assertion="x"), "unsupported_grant_type")

    asyncio.run(scenario())
