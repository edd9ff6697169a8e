"""A thousand generated secrets and personal data go into the running bank by every path; no log has one of them.

Logs are the processes' own (`logs/*.log`), the Merkle log's entries, its search index and what sinks would be sent.
Personal data that the record keeps is encrypted there; a person's id is a reference and stays.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import ssl
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import BANK, Running, running
from tests.support import eventually

pytestmark = pytest.mark.timeout(240)
CHOOSE = random.Random(20)  # nosec B311 - repeatable values, no secret of anybody's


# What `Feeder` plants, wherever it begins: a thousand searches of each file would take most of the test's time.
_PLANTED = re.compile(rb"(?=([a-z]{3}-[A-Za-z0-9]{24}|[a-z]{14}@private\.example|[0-9]{16}))")


class Feeder:
    """`planted` are all values that were sent, by what they are."""

    def __init__(self, bank: Running) -> None:
        self.bank = bank
        self.planted: dict[str, str] = {}
        self.clients: list[httpx.Client] = []
        self._context = ssl.create_default_context(cafile=bank.ca)
        self._count = 0

    def secret(self, kind: str) -> str:
        self._count += 1
        value = f"{kind[:3]}-" + "".join(CHOOSE.choices(string.ascii_letters + string.digits, k=24))
        self.planted[value] = kind
        return value

    def email(self) -> str:
        value = "".join(CHOOSE.choices(string.ascii_lowercase, k=14)) + "@private.example"
        self.planted[value] = "email"
        return value

    def card(self) -> str:
        digits = [4, *(CHOOSE.randrange(10) for _ in range(14))]
        doubled = [2 * d - 9 if 2 * d > 9 else 2 * d for d in digits[::2]]
        number = "".join(map(str, digits)) + str(-(sum(doubled) + sum(digits[1::2])) % 10)
        self.planted[number] = "card"
        return number

    def client(self) -> httpx.Client:
        """From an address of its own, so that no rate limit keeps anything out."""
        number = len(self.clients) + 2
        transport = httpx.HTTPTransport(
            verify=self._context, local_address=f"127.9.{number // 250}.{number % 250 + 1}", retries=1
        )
        self.clients.append(httpx.Client(transport=transport, base_url=self.bank.url, timeout=20))
        return self.clients[-1]


def login(feed: Feeder, client: httpx.Client) -> None:
    client.post("/login", json={"email": feed.email(), "password": feed.secret("password"), "otp": feed.secret("otp")})


def broken_body(feed: Feeder, client: httpx.Client) -> None:
    content = f'{{"email": "{feed.email()}", "password": "{feed.secret("password")}"'
    client.post("/login", content=content, headers={"content-type": "application/json"})


def bearer(feed: Feeder, client: httpx.Client) -> None:
    client.get(
        "/wallet", headers={"authorization": f"Bearer {feed.secret('token')}", "cookie": f"s={feed.secret('cookie')}"}
    )


def parameters(feed: Feeder, client: httpx.Client) -> None:
    client.get(
        "/users", params={"access_token": feed.secret("token"), "email": feed.email(), "api_key": feed.secret("key")}
    )


def oauth(feed: Feeder, client: httpx.Client) -> None:
    form = {"grant_type": "authorization_code", "client_id": "nobody", "code": feed.secret("code")}
    client.post(
        "/auth/token", data={**form, "client_secret": feed.secret("secret"), "code_verifier": feed.secret("pkce")}
    )
    form = {"grant_type": "refresh_token", "refresh_token": feed.secret("refresh")}
    client.post("/auth/token", data=form, auth=("nobody", feed.secret("basic")))
    client.post("/auth/revoke", data={"token": feed.secret("token"), "client_id": "nobody"})


def authorize(feed: Feeder, client: httpx.Client) -> None:
    query = {"client_id": "nobody", "login_hint": feed.email(), "id_token_hint": feed.secret("hint")}
    client.get("/auth/authorize", params=query)
    client.post("/auth/reset", data={"email": feed.email(), "token": feed.secret("link")})


def administration(feed: Feeder, client: httpx.Client) -> None:
    """By an administrator, on an account of somebody else."""
    token = feed.bank.token("admin")
    user = feed.bank.account("user", 1)
    headers = {"authorization": f"Bearer {token}"}
    for _ in range(30):
        change = {"display_name": feed.secret("name"), "email": feed.email()}
        answer = client.patch(f"/users/{user['user_id']}", json=change, headers=headers)
        assert answer.status_code == 200, answer.text
    change = {"email": user["email"]}
    assert client.patch(f"/users/{user['user_id']}", json=change, headers=headers).status_code == 200


def policy(feed: Feeder, client: httpx.Client) -> None:
    arguments = ("policy", "eval", "data.authz.decision", "--input", json.dumps({"jwt": {"sub": feed.secret("jwt")}}))
    feed.bank.run(*arguments)


def application(feed: Feeder, client: httpx.Client) -> None:
    """As a service tells them, with more than it should."""
    events: list[dict[str, Any]] = []
    for _ in range(40):
        details = {
            "password": feed.secret("password"),
            "nested": [{"api_key": feed.secret("key"), "note": f"Bearer {feed.secret('bearer')}"}],
            "text": f"paid with {feed.card()}",
            "email": feed.email(),
        }
        events.append(
            {"id": feed.secret("evt"), "type": "application", "at": 1_700_000_000, "success": True, "person": "usr_x",
             "reason": f"Authorization: Basic {feed.secret('basic')}", "details": details}
        )  # fmt: skip
    for event in events:
        feed.planted.pop(event["id"])
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(feed.bank.state / "run/events/wallet.sock"))
    ) as events_client:
        assert events_client.post("http://x/events", json={"events": events}).status_code == 204


PATHS: tuple[tuple[Callable[[Feeder, httpx.Client], None], int], ...] = (
    (login, 70), (broken_body, 20), (bearer, 50), (parameters, 50), (oauth, 60), (authorize, 40), (policy, 3),
    (administration, 1), (application, 1),
)  # fmt: skip


def test_a_thousand_secrets_and_personal_data_are_in_no_log() -> None:
    with running(BANK) as bank:
        feed = Feeder(bank)
        for path, times in PATHS:
            for _ in range(times):
                with contextlib.suppress(httpx.TransportError):
                    path(feed, feed.client())
        for client in feed.clients:
            client.close()
        assert len(feed.planted) > 1000
        eventually(lambda: json.loads(bank.run("audit", "verify", "--json").stdout)["ok"], within=20)
        found = leaks(feed.planted, bank.state)
    assert all(_PLANTED.match(value.encode()) for value in feed.planted)
    assert found[:5] == []


def leaks(planted: dict[str, str], state: Path) -> list[str]:
    found = []
    for pattern in ("logs/*.log", "data/sequencer/log/tile/entries/**/*", "data/sequencer/search.db*"):
        for path in sorted(one for one in state.glob(pattern) if one.is_file()):
            data = path.read_bytes()
            for match in _PLANTED.finditer(data):
                if (kind := planted.get(match[1].decode())) is not None:
                    before = data[max(0, match.start() - 80) : match.start()]
                    found.append(f"{kind} in {path.relative_to(state)}: …{before!r}")
    return found
