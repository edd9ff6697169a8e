"""Authlib's client against a running people process: code with PKCE, refresh, userinfo, device flow, logout."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet
from tests.people_browser import Browser, sign_in
from tests.people_process import PeopleProcess
from tests.people_web import ISSUER, Behind, register, web
from tests.support import eventually, short_directory

EMAIL, PASSWORD = "ann@bank.example", "a quiet river of glass 42"
CALLBACK, BYE = "https://app.example/cb", "https://app.example/bye"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SCOPE = "openid profile email offline_access"


class LogoutListener:
    """A client's back-channel endpoint on this host."""

    def __init__(self) -> None:
        self.got: list[str] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                listener.got.append(parse_qs(body)["logout_token"][0])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/logout"
        self._thread = Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def listener() -> Iterator[LogoutListener]:
    it = LogoutListener()
    yield it
    it.close()


@pytest.fixture(scope="module")
def people(listener: LogoutListener) -> Iterator[PeopleProcess]:
    with short_directory() as directory:
        process = PeopleProcess(directory)
        try:
            process.start()
            with process.client("admin") as admin:
                for email in (EMAIL, "bob@bank.example"):
                    answer = admin.post("/users", json={"email": email, "role": "user", "password": PASSWORD})
                    assert answer.status_code == 201, answer.text
            code = ("authorization_code", "refresh_token")
            register(process, "app", redirect_uris=[CALLBACK], post_logout_redirect_uris=[BYE], grants=[*code, DEVICE],
                     secret="a secret of the test app", backchannel_logout_uri=listener.uri)  # fmt: skip
            register(process, "spa", redirect_uris=[CALLBACK], grants=code, method="none")
            register(process, "shy", redirect_uris=[CALLBACK], grants=code, method="none", consent=True)
            register(process, "tv", grants=(DEVICE, "refresh_token"), method="none")
            yield process
        finally:
            process.close()


@pytest.fixture
def browser(people: PeopleProcess) -> Iterator[Browser]:
    with web(people) as http:
        yield Browser(http)


def client_of(people: PeopleProcess, client_id: str, secret: str | None = None) -> OAuth2Client:
    return OAuth2Client(
        client_id,
        secret,
        scope=SCOPE,
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
        transport=Behind(people),
    )


def tokens(
    people: PeopleProcess, browser: Browser, client_id: str = "app", secret: str | None = "a secret of the test app"
) -> dict[str, Any]:
    """By the whole way: authorization request, sign-in page, code, token endpoint."""
    with client_of(people, client_id, secret) as client:
        verifier = "v" * 64
        url, state = client.create_authorization_url(f"{ISSUER}/authorize", code_verifier=verifier, nonce="n-1")
        at = sign_in(browser, url, EMAIL, PASSWORD)
        answer = dict(parse_qsl(urlsplit(at).query))
        assert (answer["state"], answer["iss"]) == (state, ISSUER)
        return dict(client.fetch_token(f"{ISSUER}/token", authorization_response=at, code_verifier=verifier))


def identity(people: PeopleProcess, id_token: str, client_id: str, nonce: str | None = "n-1") -> CodeIDToken:
    """As a relying party verifies an ID token: joserfc for the signature, Authlib's rules for the claims."""
    with web(people) as http:
        keys = KeySet.import_key_set(http.get("/auth/jwks.json").json())
    claims = CodeIDToken(
        jwt.decode(id_token, keys).claims,
        {"alg": "RS256"},
        {"iss": {"values": [ISSUER]}, "aud": {"values": [client_id]}},
        {"nonce": nonce, "client_id": client_id} if nonce else {"client_id": client_id},
    )
    claims.validate()
    return claims


@pytest.mark.parametrize(("client_id", "secret"), [("app", "a secret of the test app"), ("spa", None), ("shy", None)])
def test_code_with_pkce(people: PeopleProcess, browser: Browser, client_id: str, secret: str | None) -> None:
    token = tokens(people, browser, client_id, secret)
    claims = identity(people, token["id_token"], client_id)
    assert claims["amr"] == ["pwd"]
    with web(people) as http:
        told = http.get("/auth/userinfo", headers={"authorization": f"Bearer {token['access_token']}"}).json()
    assert (told["sub"], told["email"], "role" in told) == (claims["sub"], EMAIL, False)
    with client_of(people, client_id, secret) as client:
        fresh = client.refresh_token(f"{ISSUER}/token", refresh_token=token["refresh_token"])
    assert fresh["access_token"] != token["access_token"]
    assert identity(people, fresh["id_token"], client_id, nonce=None)["sub"] == claims["sub"]


def test_a_second_client_is_answered_without_a_question(people: PeopleProcess, browser: Browser) -> None:
    first = identity(people, tokens(people, browser)["id_token"], "app")
    steps = len(browser.seen)
    second = identity(people, tokens(people, browser, "spa", None)["id_token"], "spa")
    assert len(browser.seen) == steps + 1
    assert (second["sid"], second["auth_time"]) == (first["sid"], first["auth_time"])


def test_of_twenty_redemptions_at_once_one_is_answered_and_its_tokens_end(
    people: PeopleProcess, browser: Browser
) -> None:
    with client_of(people, "spa") as client:
        url, _ = client.create_authorization_url(f"{ISSUER}/authorize", code_verifier="v" * 64)
    code = dict(parse_qsl(urlsplit(sign_in(browser, url, EMAIL, PASSWORD)).query))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": "v" * 64}

    def redeem(_: int) -> httpx.Response:
        with web(people) as http:
            return http.post("/auth/token", data={**form, "client_id": "spa"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(redeem, range(20)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 19]
    token = next(answer.json() for answer in answers if answer.status_code == 200)
    with web(people) as http:
        bearer = {"authorization": f"Bearer {token['access_token']}"}
        assert http.get("/auth/userinfo", headers=bearer).status_code == 401
        again = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"], "client_id": "spa"}
        assert http.post("/auth/token", data=again).json()["error"] == "invalid_grant"
    assert any(event["type"] == "people.token_reused" for event in people.journal())


@pytest.mark.parametrize("when", ["before it is redeemed", "after it was redeemed"])
def test_a_code_survives_kill_9_and_is_good_once(people: PeopleProcess, browser: Browser, when: str) -> None:
    with client_of(people, "spa") as client:
        url, _ = client.create_authorization_url(f"{ISSUER}/authorize", code_verifier="v" * 64)
        at = sign_in(browser, url, EMAIL, PASSWORD)

        def redeem() -> httpx.Response:
            form = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": "v" * 64}
            code = dict(parse_qsl(urlsplit(at).query))["code"]
            with web(people) as http:
                return http.post("/auth/token", data={**form, "code": code, "client_id": "spa"})

        if when == "after it was redeemed":
            assert redeem().status_code == 200
        people.stop(signal.SIGKILL)
        people.start()
        assert redeem().status_code == (200 if when == "before it is redeemed" else 400)
        assert redeem().status_code == 400


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_the_device_flow(people: PeopleProcess, browser: Browser, answer: str) -> None:
    with client_of(people, "tv") as client, web(people) as http:
        begun = http.post("/auth/device_authorization", data={"client_id": "tv", "scope": SCOPE})
        device = begun.json()
        form = {"grant_type": DEVICE, "device_code": device["device_code"]}
        with pytest.raises(OAuthError) as waiting:
            client.fetch_token(f"{ISSUER}/token", **form)
        assert waiting.value.error == "authorization_pending"
        at = browser.open(device["verification_uri_complete"])
        for _ in range(5):
            assert isinstance(at, httpx.Response)
            if 'name="password"' in at.text:
                at = browser.submit({"email": EMAIL, "password": PASSWORD})
            elif {answer, "allow", "refuse"} & {value for _, value in browser.buttons()}:
                break
            else:
                at = browser.submit({})
        browser.press(answer, "allow" if answer == "approve" else "refuse")
        if answer == "deny":
            with pytest.raises(OAuthError) as denied:
                client.fetch_token(f"{ISSUER}/token", **form)
            assert denied.value.error == "access_denied"
            return
        token = client.fetch_token(f"{ISSUER}/token", **form)
        assert token["refresh_token"]
        assert token["id_token"]
        with pytest.raises(OAuthError) as again:
            client.fetch_token(f"{ISSUER}/token", **form)
        assert again.value.error == "invalid_grant"


def test_logging_out_tells_the_other_clients_even_when_the_process_is_killed(
    people: PeopleProcess, browser: Browser, listener: LogoutListener
) -> None:
    token = tokens(people, browser)
    sid = identity(people, token["id_token"], "app")["sid"]
    query = urlencode({"id_token_hint": token["id_token"], "post_logout_redirect_uri": BYE, "state": "s-9"})
    listener.got.clear()
    assert browser.open(f"{ISSUER}/logout?{query}") == f"{BYE}?state=s-9"
    people.stop(signal.SIGKILL)
    people.start()
    eventually(lambda: listener.got)
    with web(people) as http:
        keys = KeySet.import_key_set(http.get("/auth/jwks.json").json())
    decoded = jwt.decode(listener.got[0], keys)
    assert decoded.header["typ"] == "logout+jwt"
    assert (decoded.claims["sid"], decoded.claims["aud"]) == (sid, "app")
    url = f"{ISSUER}/authorize?" + urlencode({"client_id": "spa", "redirect_uri": CALLBACK, "response_type": "code",
        "scope": "openid", "code_challenge": "c" * 43, "code_challenge_method": "S256", "prompt": "none"})  # fmt: skip
    at = browser.open(url)
    assert isinstance(at, str)
    assert dict(parse_qsl(urlsplit(at).query))["error"] == "login_required"


def test_nothing_secret_reaches_the_log_or_the_journal(people: PeopleProcess, browser: Browser) -> None:
    with client_of(people, "spa") as client:
        url, _ = client.create_authorization_url(f"{ISSUER}/authorize", code_verifier="v" * 64)
        at = sign_in(browser, url, EMAIL, PASSWORD)
        token = client.fetch_token(f"{ISSUER}/token", authorization_response=at, code_verifier="v" * 64)
    code = dict(parse_qsl(urlsplit(at).query))["code"]
    told = people.log() + json.dumps(people.journal())
    for secret in (code, "v" * 64, token["access_token"], token["refresh_token"], token["id_token"], PASSWORD):
        assert secret not in told


def test_prompt_login_asks_again_and_a_silent_request_doesnt(people: PeopleProcess, browser: Browser) -> None:
    first = identity(people, tokens(people, browser)["id_token"], "app")
    with client_of(people, "spa") as client:
        for prompt, asked in (("login", True), ("none", False)):
            url, _ = client.create_authorization_url(
                f"{ISSUER}/authorize", code_verifier="v" * 64, nonce="n-1", prompt=prompt
            )
            pages = len(browser.seen)
            at = sign_in(browser, url, EMAIL, PASSWORD)
            assert (len(browser.seen) > pages + 1) is asked
            token = client.fetch_token(f"{ISSUER}/token", authorization_response=at, code_verifier="v" * 64)
            again = identity(people, token["id_token"], "spa")
            assert again["sid"] == first["sid"]
            assert again["auth_time"] >= first["auth_time"]


def test_who_cant_reach_what_is_demanded_comes_back_with_that(people: PeopleProcess, browser: Browser) -> None:
    with client_of(people, "spa") as client:
        url, _ = client.create_authorization_url(f"{ISSUER}/authorize", code_verifier="v" * 64, acr_values="mfa")
    at = browser.open(url)
    assert isinstance(at, httpx.Response)
    browser.submit({"email": EMAIL, "password": PASSWORD})
    at = browser.press("refuse")
    assert isinstance(at, str)
    assert dict(parse_qsl(urlsplit(at).query))["error"] == "unmet_authentication_requirements"
