"""openid-client and oauth4webapi, the certified clients for Node, against the running bank's issuer."""

from __future__ import annotations

import http.server
import json
import queue
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey
from tests.integration.conftest import Running
from tests.node_support import converse
from tests.people_browser import Browser, sign_in

pytestmark = pytest.mark.timeout(180)
CALLBACK = "https://client.example/callback"
SIGNED_OUT = "https://client.example/bye"
SECRET = "a shop's own secret of forty characters 1"  # nosec B105 - of this test


class Listener(http.server.BaseHTTPRequestHandler):
    """A client's back-channel logout endpoint: keeps what it was sent."""

    tokens: queue.Queue[str] = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.tokens.put(parse_qs(body)["logout_token"][0])
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


@dataclass
class Registered:
    given: dict[str, Any]
    person: dict[str, Any]


def add_client(bank: Running, id: str, *options: str, **more: Any) -> None:
    done: subprocess.CompletedProcess[str] = bank.run("client", "add", id, *options, "--json", **more)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def registered(bank: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    heard = f"http://127.0.0.1:{server.server_port}/logout"
    jwks: dict[str, dict[str, Any]] = {}
    files: dict[str, Path] = {}
    for name in ("it-service", "it-bank"):
        jwk = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()), {"kid": f"{name}-1", "alg": "ES256"})  # type: ignore[arg-type] # joserfc takes native keys
        jwks[name] = jwk.as_dict(private=True) | {"alg": "ES256", "kid": f"{name}-1"}
        files[name] = tmp_path_factory.mktemp("keys") / "key.jwk"
        files[name].write_text(json.dumps(jwk.as_dict(private=False) | {"alg": "ES256", "kid": f"{name}-1"}))
    code = ("--grant", "authorization_code", "--grant", "refresh_token", "--redirect-uri", CALLBACK)
    scopes = [part for scope in ("openid", "profile", "email", "offline_access") for part in ("--scope", scope)]
    leaving = ("--post-logout-redirect-uri", SIGNED_OUT, "--backchannel-logout-uri", heard)
    machine = ("--grant", "client_credentials")
    exchange = ("--grant", "urn:ietf:params:oauth:grant-type:token-exchange")
    device = ("--grant", "urn:ietf:params:oauth:grant-type:device_code")
    add_client(bank, "it-web", "--secret-stdin", *code, *scopes, *leaving, input=SECRET)
    add_client(bank, "it-spa", "--public", *code, *scopes)
    add_client(bank, "it-service", "--jwk", str(files["it-service"]), *machine, "--scope", "reports")
    add_client(bank, "it-shop", "--secret-stdin", *machine, "--scope", "reports", input=SECRET)
    add_client(bank, "it-tv", "--public", *device, *scopes)
    add_client(bank, "it-bank", "--jwk", str(files["it-bank"]), *code, *scopes, *machine, *exchange)
    person = bank.account("user")
    given = {
        "issuer": bank.status["issuer"],
        "audience": "bank.example",
        "callback": CALLBACK,
        "signedOut": SIGNED_OUT,
        "subject": person["user_id"],
        "email": person["email"],
        "web": {"id": "it-web", "secret": SECRET},
        "shop": {"id": "it-shop", "secret": SECRET},
        "spa": {"id": "it-spa"},
        "tv": {"id": "it-tv"},
        "service": {"id": "it-service", "jwk": jwks["it-service"]},
        "bank": {"id": "it-bank", "jwk": jwks["it-bank"]},
    }
    yield Registered(given, person)
    server.shutdown()
    thread.join(5)
    server.server_close()


def play(bank: Running, registered: Registered, script: str) -> list[str]:
    """Run a client; this side is the person at the browser."""
    person = registered.person
    context = ssl.create_default_context(cafile=bank.ca)
    with httpx.Client(base_url=bank.url, verify=context, timeout=20, follow_redirects=False) as http_client:
        browser = Browser(http_client)

        def answer(question: dict[str, Any]) -> dict[str, Any]:
            if question["ask"] == "sign-in":
                return {"at": sign_in(browser, question["url"], person["email"], person["password"])}
            if question["ask"] == "device":
                at = browser.open(question["url"])
                for _ in range(3):
                    assert not isinstance(at, str)
                    if not any(value in ("approve", "allow") for _, value in browser_buttons(browser)):
                        at = browser.submit({})
                browser.press("approve", "allow")
                return {}
            assert question["ask"] == "sign-out"
            at = browser.open(question["url"])
            if not isinstance(at, str):
                at = browser.press("sign-out", "confirm", "yes")
            assert isinstance(at, str), at.text[:2000]
            return {"at": at, "token": Listener.tokens.get(timeout=10)}

        return [one["told"] for one in converse(script, registered.given, answer, ca=bank.ca)]


def browser_buttons(browser: Browser) -> list[tuple[str, str]]:
    return browser.buttons()


def test_openid_client(bank: Running, registered: Registered) -> None:
    assert play(bank, registered, "openid_client.mjs")[-1] == "logout, and back-channel logout"


def test_oauth4webapi(bank: Running, registered: Registered) -> None:
    assert play(bank, registered, "oauth4webapi.mjs")[-1] == "client credentials, introspection, revocation"
