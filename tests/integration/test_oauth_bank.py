"""OAuth through the real gateway of the bank: bound tokens at a service, and a workload's JWT-SVID."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import Running
from tests.oauth_support import JWT_BEARER, Prover, basic, claims_of

from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import SystemClock


@pytest.fixture
def gateway(bank: Running) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=bank.ca)
    with httpx.Client(verify=context, base_url=bank.url, timeout=20) as client:
        yield client


def register(bank: Running, *arguments: str) -> dict[str, Any]:
    done = bank.run("client", "add", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_bound_token_opens_a_service_with_a_fresh_proof_and_as_a_bearer_token_nothing(
    bank: Running, gateway: httpx.Client
) -> None:
    """RFC 9449 section 7: Envoy verifies the token, the PDP the proof, the service takes it from there."""
    account, issuer = bank.account("user"), bank.status["issuer"]
    secret = register(bank, "bound-shop", "--grant", "password", "--scope", "openid session", "--dpop")["secret"]
    me, thief = (Prover(SystemClock(), SigningKey.generate("ES256")) for _ in range(2))
    form = {"grant_type": "password", "username": account["email"], "password": account["password"]}
    headers = {**basic("bound-shop", secret), **me.proof(url=f"{issuer}/token")}
    answer = gateway.post("/auth/token", data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    address = f"{bank.url}/wallet"

    def wallet(scheme: str, proof: dict[str, str]) -> int:
        headers = {"authorization": f"{scheme} {token}", **proof}
        return gateway.get(f"/wallet?user_id={account['user_id']}", headers=headers).status_code

    once = me.proof("GET", address, access_token=token)
    assert wallet("DPoP", once) == 200
    assert wallet("DPoP", once) == 401
    assert wallet("DPoP", {}) == 401
    assert wallet("Bearer", {}) == 401
    assert wallet("Bearer", me.proof("GET", address, access_token=token)) == 401
    assert wallet("DPoP", thief.proof("GET", address, access_token=token)) == 401
    assert wallet("DPoP", me.proof("GET", f"{bank.url}/payments", access_token=token)) == 401
    assert wallet("DPoP", me.proof("GET", address, access_token=token)) == 200


def test_a_jwt_svid_of_the_workload_api_buys_an_access_token(bank: Running, gateway: httpx.Client) -> None:
    """RFC 7523: people asks the Workload API for the keys; no secret was ever given out."""
    register(bank, "agent", "--spiffe-id", "spiffe://bank.example/deposit-agent", "--grant", "jwt-bearer")
    cli = str(Path(sys.executable).with_name("rempart"))
    audience = str(bank.status["issuer"])

    def svid(audience: str) -> str:
        made = bank.run("run", "deposit-agent", "--", cli, "svid", "jwt", "--audience", audience)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    answer = gateway.post("/auth/token", data={"grant_type": JWT_BEARER, "assertion": svid(audience)})
    assert answer.status_code == 200, answer.text
    assert claims_of(answer.json()["access_token"])["sub"] == "agent"
    other = gateway.post("/auth/token", data={"grant_type": JWT_BEARER, "assertion": svid("somebody-else")})
    assert other.json()["error"] == "invalid_grant"
