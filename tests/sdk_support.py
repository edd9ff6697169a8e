"""A protected application without the system around it: real tokens, and requests as its sidecar would send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from rempart.crypto.jose import Jwks, SigningKey
from rempart.kernel.errors import Unavailable
from rempart.sdk import Answer, OutgoingEvent, Question, TokenVerifier

ISSUER = "https://localhost:8443/auth"
DOMAIN = "bank.example"
GATEWAY = f"spiffe://{DOMAIN}/rempart/gateway"
KEY = SigningKey.generate("EdDSA")


class Keys:
    """A key set that can be changed, counted and cut off."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = keys or (KEY,)
        self.fetched = 0
        self.down = False

    async def fetch(self) -> Jwks:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("upstream_unavailable", "people is down")
        return Jwks.of(*self.keys)


def verifier(keys: Keys | None = None, **options: Any) -> TokenVerifier:
    return TokenVerifier(keys or Keys(), issuer=ISSUER, audience=DOMAIN, **options)


def token(subject: str, role: str = "user", *, key: SigningKey = KEY, now: float | None = None, **claims: Any) -> str:
    now = time.time() if now is None else now
    body = {
        "iss": ISSUER,
        "sub": subject,
        "aud": DOMAIN,
        "role": role,
        "iat": int(now),
        "exp": int(now) + 7200,  # made when tests are collected, used when their turn comes
        **claims,
    }
    return key.sign(body)


def headers(subject: str = "", role: str = "user", *, workload: str = GATEWAY, **more: str) -> list[tuple[str, str]]:
    """What the sidecar sends on for a person (or, without one, for a workload alone)."""
    made = [("x-spiffe-id", workload), ("x-request-id", "req-1"), ("x-rempart-decision", "dec_1")]
    if subject:
        made += [
            ("authorization", f"Bearer {token(subject, role)}"),
            ("x-rempart-subject", subject),
            ("x-rempart-role", role),
        ]
    return made + [(name.replace("_", "-"), value) for name, value in more.items()]


def ask(app: Any, method: str, path: str, given: Sequence[tuple[str, str]] = (), **options: Any) -> httpx.Response:
    """One request to an ASGI application; exceptions that it lets out fail the test."""

    async def run() -> httpx.Response:
        async with client(app) as http:
            return await http.request(method, path, headers=list(given), **options)

    return asyncio.run(run())


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


class AsgiTransport:
    """Carries the questions of a ServiceClient to an ASGI application in this process, as the peer `workload`."""

    def __init__(self, app: Any, workload: str) -> None:
        self._http = client(app)
        self._workload = workload

    async def send(self, question: Question, within: float) -> Answer:
        given = {**question.headers, "x-spiffe-id": self._workload}
        answer = await self._http.request(question.method, question.target, headers=given, content=question.body)
        return Answer(answer.status_code, dict(answer.headers), answer.content)

    async def close(self) -> None:
        await self._http.aclose()


class ScriptedTransport:
    """Answers from a function; keeps what was asked."""

    def __init__(self, answer: Callable[[Question], Answer | Awaitable[Answer]]) -> None:
        self._answer = answer
        self.asked: list[Question] = []

    async def send(self, question: Question, within: float) -> Answer:
        self.asked.append(question)
        found = self._answer(question)
        return found if isinstance(found, Answer) else await found

    async def close(self) -> None:
        pass


class Events:
    """An event sink that keeps what is posted, and can be down."""

    def __init__(self) -> None:
        self.posted: list[OutgoingEvent] = []
        self.down = False

    async def post(self, events: Sequence[OutgoingEvent]) -> None:
        if self.down:
            raise Unavailable("upstream_unavailable", "the audit trail is down")
        self.posted += events
