"""What a client does, for tests of the OAuth room: assertions, DPoP proofs, and the harness with clients in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tests.people_harness import ISSUER, Harness, came_from, harness

from rempart.crypto.jose import SigningKey
from rempart.crypto.jws import thumbprint
from rempart.kernel.clock import Clock
from rempart.kernel.ids import new_id

TOKEN = f"{ISSUER}/token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
FORM = "application/x-www-form-urlencoded"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jws(key: SigningKey, header: Mapping[str, Any], claims: Mapping[str, Any] | bytes) -> str:
    """Signed over any header and payload: what no library would make."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
    signature = key.signature(text.encode())
    return f"{text}.{b64(signature)}"


def public(key: SigningKey) -> dict[str, Any]:
    """The bare public JWK."""
    return {name: value for name, value in key.public_jwk().items() if name not in ("kid", "use", "alg")}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


@dataclass
class Prover:
    """A key of a client with DPoP proofs by it. `nonce` goes into each."""

    clock: Clock
    key: SigningKey
    nonce: str | None = None

    @property
    def jkt(self) -> str:
        return thumbprint(public(self.key))

    def proof(
        self, method: str = "POST", url: str = TOKEN, *, access_token: str | None = None, **changes: Any
    ) -> dict[str, str]:
        """The header; `changes` of claims, None to leave one out; `header` of the JWS."""
        header = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": public(self.key), **changes.pop("header", {})}
        claims: dict[str, Any] = {"jti": new_id("jti"), "htm": method, "htu": url, "iat": int(self.clock.now())}
        if access_token is not None:
            claims["ath"] = b64(hashlib.sha256(access_token.encode()).digest())
        if self.nonce is not None:
            claims["nonce"] = self.nonce
        claims |= changes
        return {"dpop": jws(self.key, header, {name: value for name, value in claims.items() if value is not None})}


@dataclass
class OAuthHarness:
    people: Harness

    @property
    def clock(self) -> Any:
        return self.people.clock

    async def client(self, client_id: str, **more: Any) -> dict[str, Any]:
        answer = await self.people.admin.post("/clients", json={"id": client_id, **more})
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def post(
        self, path: str, form: Mapping[str, str] | bytes, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        content: dict[str, Any] = {"content": form} if isinstance(form, bytes) else {"data": dict(form)}
        sent = {"content-type": FORM, **came_from("203.0.113.7"), **(headers or {})}
        return await self.people.api.post(f"/auth/{path}", headers=sent, **content)

    async def token(self, grant: str, headers: Mapping[str, str] | None = None, **form: str) -> httpx.Response:
        return await self.post("token", {"grant_type": grant, **form}, headers)

    def prover(self, algorithm: str = "ES256") -> Prover:
        return Prover(self.clock, SigningKey.generate(algorithm))

    def assertion(self, client_id: str, key: SigningKey, **changes: Any) -> dict[str, str]:
        """The form parameters of `private_key_jwt`."""
        header = {"alg": key.algorithm, "kid": key.kid, **changes.pop("header", {})}
        now = int(self.clock.now())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": ISSUER,
            "jti": new_id("jti"),
            "iat": now,
            "exp": now + 60,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return {"client_assertion_type": ASSERTION, "client_assertion": jws(key, header, claims)}

    async def session(self, email: str = "ann@bank.example") -> dict[str, Any]:
        """A first-party login."""
        if not any(user["email"] == email for user in (await self.people.admin.get("/users")).json()["users"]):
            await self.people.add(email)
        answer = await self.people.login(email)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def events(self, kind: str) -> list[Any]:
        return [event for event in self.people.recorder.events if str(event.type) == kind]


@asynccontextmanager
async def oauth(**settings: Any) -> AsyncIterator[OAuthHarness]:
    async with harness(**settings) as people:
        yield OAuthHarness(people)


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return document
