"""Programs are served at every name of the gateway, people at the issuer's."""

from __future__ import annotations

import asyncio

from tests.oauth_support import oauth
from tests.people_harness import ISSUER

OTHERS = ["https://www.bank.example", "https://bank.internal:8443"]
BROWSER = {"sec-fetch-mode": "navigate", "host": "www.bank.example"}


def test_a_browser_at_another_name_is_sent_to_the_same_page_at_the_issuers() -> None:
    async def scenario() -> None:
        async with oauth(other_origins=OTHERS) as h:
            get = h.people.api.get
            sent = await get("/auth/sign-in?next=%2Fauth%2Faccount&x=1", headers=BROWSER)
            assert (sent.status_code, sent.headers["cache-control"]) == (307, "no-store")
            assert sent.headers["location"] == f"{ISSUER}/sign-in?next=%2Fauth%2Faccount&x=1"
            for path in ("//evil.example/x", "/auth/%0d%0aset-cookie:%20a"):
                location = (await get(path, headers=BROWSER)).headers.get("location", ISSUER)
                assert location.startswith("https://localhost:8443/")
                assert "\n" not in location
            for headers in (
                {"host": "www.bank.example"},
                {"host": "localhost:8443", "sec-fetch-mode": "navigate"},
                {"host": "evil.example", "sec-fetch-mode": "navigate"},
                {"host": "www.bank.example", "sec-fetch-mode": "cors"},
            ):
                assert (await get("/auth/sign-in", headers=headers)).status_code == 200, headers
            posted = await h.people.api.post("/auth/sign-in", headers=BROWSER, data={"email": "a"})
            assert posted.status_code == 403

    asyncio.run(scenario())


def test_a_dpop_proof_is_for_any_name_of_the_gateway_and_no_other() -> None:
    async def scenario() -> None:
        async with oauth(other_origins=OTHERS) as h:
            key = h.prover()
            await h.client("svc", secret="a secret of sixteen", scopes=["read"], dpop_bound=True)
            form = {"client_id": "svc", "client_secret": "a secret of sixteen"}
            for origin in ("https://localhost:8443", *OTHERS):
                answer = await h.token("client_credentials", key.proof(url=f"{origin}/auth/token"), **form)
                assert answer.status_code == 200, answer.text
            for origin in ("https://evil.example", "http://www.bank.example", "https://www.bank.example:8443"):
                answer = await h.token("client_credentials", key.proof(url=f"{origin}/auth/token"), **form)
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")

    asyncio.run(scenario())


def test_whatever_the_name_there_is_one_issuer() -> None:
    async def scenario() -> None:
        async with oauth(other_origins=OTHERS) as h:
            path = "/auth/.well-known/openid-configuration"
            documents = [(await h.people.api.get(path, headers={"host": name})).json() for name in ("a.example", "b")]
            assert documents[0] == documents[1]
            assert documents[0]["issuer"] == ISSUER

    asyncio.run(scenario())
