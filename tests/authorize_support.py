"""The authorization room composed for tests: real stores, sessions and keys; clients that the test lists; a browser."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from starlette.requests import Request
from tests.people_fakes import MemoryRecorder, ready_keys
from tests.people_harness import GATEWAY, ISSUER, PASSWORD, WEAK_HASH

from rempart.crypto.aead import derive_key
from rempart.crypto.jose import Claims, Jwks, verify_jwt
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unauthenticated
from rempart.people.accounts import Actor
from rempart.people.authorize.id_tokens import IdTokens
from rempart.people.model import Account, Authenticated, Origin, RefreshFamily
from rempart.people.oauth.model import Binding, Client, Grant, Granted, Method, TokenRequest
from rempart.people.oauth.profile import BASELINE, Profile
from rempart.people.requests import Origins, application
from rempart.people.sessions.cookies import SESSION_COOKIE
from rempart.people.sessions.model import Kind, Opened
from rempart.people.sessions.ports import SessionEnding
from rempart.people.sessions.service import Sessions
from rempart.people.throttle import Throttle
from rempart.servers.people import People, compose
from rempart.servers.people_authorize import Authorization, compose_authorization
from rempart.wiring.process_people import PeopleSettings

CALLBACK = "https://app.example/cb"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
GRANTS = (Grant.AUTHORIZATION_CODE, Grant.REFRESH_TOKEN, Grant.DEVICE_CODE)
SCOPES = ("openid", "profile", "email", "offline_access")
ORIGIN = Origin(ip="203.0.113.7", workload=GATEWAY)
APP = Client(
    id="app", name="The app", method=Method.NONE, redirect_uris=(CALLBACK,), grants=GRANTS, scopes=SCOPES,
    post_logout_redirect_uris=("https://app.example/bye",), backchannel_logout_uri="https://app.example/logout",
)  # fmt: skip
SHY = Client(
    id="shy", name="Asks first", method=Method.NONE, redirect_uris=("https://shy.example/cb",), grants=GRANTS,
    scopes=SCOPES, consent=True,
)  # fmt: skip
NATIVE = Client(
    id="native", name="Native", method=Method.NONE, redirect_uris=("http://127.0.0.1/cb",), grants=GRANTS, scopes=SCOPES
)


class ListedClients:
    """Clients by id; also authenticates whoever names one, and a DPoP key by the header `x-test-key`."""

    def __init__(self, *clients: Client) -> None:
        self.clients = {client.id: client for client in clients}

    async def get(self, client_id: str) -> Client | None:
        return self.clients.get(client_id)

    async def client(self, request: Request, form: Mapping[str, str], origin: Origin) -> Client:
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            raise Unauthenticated("invalid_client", "unknown")
        return client

    async def proved(self, request: Request) -> str:
        return request.headers.get("x-test-key", "")

    def nonce(self) -> str:
        return "n"


@dataclass
class ListeningClient:
    """A back channel that keeps what was sent; `up` False: nobody takes it."""

    up: bool = True
    got: list[tuple[str, str]] = field(default_factory=list)

    async def post(self, uri: str, logout_token: str) -> bool:
        self.got.append((uri, logout_token))
        return self.up


@dataclass
class AnyBearer:
    """Whoever presents an access token of ours."""

    people: People

    async def person(self, request: Request, origin: Origin, *, scope: str = "") -> tuple[Claims, Account]:
        claims = self.people.tokens.verify(request.headers.get("authorization", "").removeprefix("Bearer "))
        account = await self.people.store.get(claims.subject)
        assert account is not None
        return claims, account


@dataclass
class Room:
    people: People
    sessions: Sessions
    authorization: Authorization
    clients: ListedClients
    listener: ListeningClient
    recorder: MemoryRecorder
    clock: ManualClock
    browser: httpx.AsyncClient

    async def account(self, email: str = "ann@bank.example") -> Account:
        found = await self.people.store.by_email(email)
        if found:
            return found[0]
        added = await self.people.accounts.add(
            email=email, role="user", name="Ann", payment_limit=None, password=PASSWORD, actor=Actor(ORIGIN)
        )
        return added.account

    async def sign_in(self, email: str = "ann@bank.example", amr: tuple[str, ...] = ("pwd",)) -> Opened:
        """As the sign-in page does it: a new session, whose cookie the browser has from now on."""
        account = await self.account(email)
        self.clock.advance(1)
        who = Authenticated(account=account, amr=amr, auth_time=self.clock.now())
        opened = await self.sessions.open(who, Kind.WEB, ORIGIN)
        self.browser.cookies.set(SESSION_COOKIE, opened.token)
        self.clock.advance(1)
        return opened

    async def authorize(self, method: str = "GET", **changes: str | None) -> httpx.Response:
        """A right request but for `changes`; None leaves a parameter out."""
        parameters = {**right_request(), **changes}
        given = {name: value for name, value in parameters.items() if value is not None}
        if method == "POST":
            return await self.browser.post("/auth/authorize", data=given)
        return await self.browser.get("/auth/authorize", params=given)

    async def code(self, **changes: str | None) -> str:
        return sent(await self.authorize("GET", **changes))["code"]

    async def redeem(self, code: str, client: Client = APP, jkt: str = "", **changes: str | None) -> Granted:
        form = {"code": code, "redirect_uri": client.redirect_uris[0], "code_verifier": VERIFIER, **changes}
        given = {name: value for name, value in form.items() if value is not None}
        return await self.authorization.grants[0].redeem(
            TokenRequest(client=client, form=given, origin=ORIGIN, binding=Binding(jkt=jkt))
        )

    async def family(self, granted: Granted, client: Client = APP) -> None:
        """As the token endpoint does: a refresh family under the grant's id, then the handler's last word."""
        assert granted.account is not None
        family = RefreshFamily(
            id=granted.grant_id,
            account_id=granted.account.id,
            epoch=granted.account.epoch,
            amr=granted.amr,
            scope=" ".join(granted.scope),
            network="",
            user_agent="",
            created_at=self.clock.now(),
            last_used_at=self.clock.now(),
            expires_at=self.clock.now() + 86400,
            client_id=client.id,
            session_id=granted.session_id,
        )
        await self.people.families.open(family, granted.grant_id.encode(), keep=50)
        if granted.settle is not None:
            await granted.settle()

    async def stands(self, granted: Granted) -> bool:
        """Whether what was granted is not revoked."""
        found = await self.people.families.find(granted.grant_id)
        return found is not None and found[0].revoked_at is None

    async def poll(self, device_code: str, client: Client = APP, jkt: str = "") -> Granted:
        return await self.authorization.grants[1].redeem(
            TokenRequest(client=client, form={"device_code": device_code}, origin=ORIGIN, binding=Binding(jkt=jkt))
        )

    def claims(self, id_token: str, client: Client = APP, typ: str = "JWT") -> dict[str, Any]:
        keys = Jwks.parse(self.people.keys.document)
        return verify_jwt(id_token, keys, typ=typ, issuer=ISSUER, audience=client.id, now=self.clock.now())


def right_request() -> dict[str, str | None]:
    return {
        "client_id": "app",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "state": "s t&=?",
        "nonce": "n-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }


def sent(answer: httpx.Response, to: str = CALLBACK) -> dict[str, str]:
    """What a redirect to the client carries."""
    assert answer.status_code == 303, (answer.status_code, answer.text)
    location = answer.headers["location"]
    assert location.startswith(to), location
    return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))


def asked(answer: httpx.Response, page: str = "sign-in") -> str:
    """The handle with which a page was called."""
    return sent(answer, f"{ISSUER}/{page}")["interaction"]


@asynccontextmanager
async def room(*clients: Client, profile: Profile = BASELINE) -> AsyncIterator[Room]:
    clock, recorder, listener = ManualClock(), MemoryRecorder(), ListeningClient()
    listed = ListedClients(*(clients or (APP, SHY, NATIVE)))
    settings = PeopleSettings(issuer=ISSUER, audience="bank.example", signing_algorithm="ES256")
    with tempfile.TemporaryDirectory() as directory:
        people = await compose(
            settings, Path(directory), b"k" * 32, recorder, clock=clock, hasher=WEAK_HASH, generate=ready_keys()
        )
        try:
            endings: list[SessionEnding] = []
            sessions = Sessions(
                people.state.sessions, people.store, recorder, people.refusals, clock, key=b"s" * 32, ending=endings
            )
            origins = Origins(gateway=GATEWAY, client_ip_header="x-forwarded-for")
            authorization = compose_authorization(
                issuer=ISSUER,
                trust_domain="bank.example",
                profile=profile,
                joined_for=86400.0,
                secret=lambda purpose: derive_key(b"k" * 32, purpose),
                database=people.database,
                once=people.once,
                id_tokens=IdTokens(people.keys, clock, profile.signing, issuer=ISSUER, ttl=300),
                accounts=people.accounts,
                sessions=sessions,
                families=people.families,
                clients=listed,
                authentication=listed,
                proofs=listed,
                bearers=people.oauth.bearers,
                origins=origins,
                sender=listener,
                guesses=Throttle(clock),
                recorder=recorder,
                refusals=people.refusals,
                clock=clock,
            )
            endings.append(authorization.logouts)
            transport = httpx.ASGITransport(application(authorization.routes))
            headers = {"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"}
            async with httpx.AsyncClient(
                transport=transport, base_url="https://localhost:8443", headers=headers
            ) as browser:
                yield Room(people, sessions, authorization, listed, listener, recorder, clock, browser)
        finally:
            recorder.failing = None
            await people.close()
