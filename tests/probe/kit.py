"""What a prober has: an issuer behind the gateway, clients of every kind, a signed-in browser, a forger's tools.

Each request comes from a loopback address of its own unless told otherwise, so that no limit meant for one address
stands in for what is probed.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import secrets
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.integration.conftest import Running
from tests.people_browser import Browser, sign_in

CALLBACK = "https://client.example/callback"
SIGNED_OUT = "https://client.example/bye"
SECRET = "a web client's secret of forty characters"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_sources = itertools.count(300)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def source() -> str:
    number = next(_sources)
    return f"127.{number // 62500 % 250 + 1}.{number // 250 % 250}.{number % 250 + 1}"


@dataclass(frozen=True)
class Key:
    """An ES256 key and the forger's pen: signs whatever header and claims it is given."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    kid: str = "k1"

    @cached_property
    def public(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.y.to_bytes(32, "big")),
        }

    @cached_property
    def thumbprint(self) -> str:
        """RFC 7638."""
        document = {name: self.public[name] for name in ("crv", "kty", "x", "y")}
        return b64(hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).digest())

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any] | bytes) -> str:
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        text = f"{b64(json.dumps(header).encode())}.{b64(payload)}"
        r, s = decode_dss_signature(self.private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: str = "") -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{signature}"


def hs256(header: Mapping[str, Any], claims: Mapping[str, Any], key: bytes) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(text.encode())
    return f"{text}.{b64(mac.finalize())}"


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(claims))


def pkce() -> tuple[str, str]:
    verifier = b64(secrets.token_bytes(32))
    return verifier, b64(hashlib.sha256(verifier.encode()).digest())


@dataclass
class Idp:
    bank: Running
    person: dict[str, Any]
    key: Key = field(default_factory=Key)
    other: Key = field(default_factory=Key)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.bank.ca)

    def close(self) -> None:
        if "browser" in self.__dict__:
            self.browser.http.close()

    @property
    def issuer(self) -> str:
        return str(self.bank.status["issuer"])

    @cached_property
    def metadata(self) -> dict[str, Any]:
        document: dict[str, Any] = self.ask("GET", "/auth/.well-known/openid-configuration").json()
        return document

    def endpoint(self, name: str) -> str:
        return str(self.metadata[name])

    def http(self, where: str = "") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.tls, local_address=where or source())
        return httpx.Client(base_url=self.bank.url, transport=transport, timeout=20, follow_redirects=False)

    def ask(self, method: str, url: str, *, where: str = "", **more: Any) -> httpx.Response:
        with self.http(where) as http:
            return http.request(method, url, **more)

    # -- a person at a browser -------------------------------------------------------------------------------------

    @cached_property
    def browser(self) -> Browser:
        """Signed in once, then kept: single sign-on makes every further code quick."""
        browser = Browser(self.http())
        sign_in(browser, self.request_url(), self.person["email"], self.person["password"])
        return browser

    def parameters(self, client: str = "p-web", **more: str | None) -> dict[str, str]:
        """Of a proper authorization request, with `more` over it; None leaves one out."""
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": CALLBACK,
            "scope": "openid email",
            "state": "s-" + secrets.token_hex(4),
            "nonce": "n-" + secrets.token_hex(4),
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in {**usual, **more}.items() if value is not None}

    def request_url(self, client: str = "p-web", **more: str | None) -> str:
        return f"{self.endpoint('authorization_endpoint')}?{urlencode(self.parameters(client, **more))}"

    def authorize(self, client: str = "p-web", **more: str | None) -> dict[str, str]:
        """What arrives at the client of a signed-in person's request."""
        at = sign_in(self.browser, self.request_url(client, **more), self.person["email"], self.person["password"])
        parts = urlsplit(at)
        assert at.startswith(more.get("redirect_uri") or CALLBACK), at
        return {name: values[0] for name, values in parse_qs(parts.query or parts.fragment).items()}

    def code(self, client: str = "p-web", **more: str | None) -> str:
        return self.authorize(client, **more)["code"]

    # -- the token endpoint ------------------------------------------------------------------------------------------

    def token(self, form: Mapping[str, str] | list[tuple[str, str]], **more: Any) -> httpx.Response:
        content = urlencode(form if isinstance(form, list) else list(form.items())).encode()
        headers = {"content-type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        return self.ask("POST", self.endpoint("token_endpoint"), content=content, headers=headers, **more)

    def redeem(self, code: str, client: str = "p-web", **more: Any) -> httpx.Response:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        form |= {"client_id": client} if client in PUBLIC else {}
        form |= {name: more.pop(name) for name in ("redirect_uri", "code_verifier", "scope") if name in more}
        auth = None if client in PUBLIC else (client, SECRET)
        return self.token({k: v for k, v in form.items() if v is not None}, **({"auth": auth} | more))

    def tokens(self, client: str = "p-web", scope: str = "openid email offline_access") -> dict[str, Any]:
        answer = self.redeem(self.code(client, scope=scope), client)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def refresh(self, token: str, client: str = "p-web", **more: Any) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        form |= {"client_id": client} if client in PUBLIC else {}
        form |= {name: more.pop(name) for name in ("scope",) if name in more}
        return self.token(form, **({"auth": None if client in PUBLIC else (client, SECRET)} | more))

    def userinfo(self, token: str, scheme: str = "Bearer", **headers: str) -> httpx.Response:
        return self.ask(
            "GET", self.endpoint("userinfo_endpoint"), headers={"authorization": f"{scheme} {token}", **headers}
        )

    def assertion(self, key: Key | None = None, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Of p-jwt (RFC 7523 section 3), with `claims` over what is proper; None leaves one out."""
        now = int(time.time())
        usual = {
            "iss": "p-jwt",
            "sub": "p-jwt",
            "aud": self.issuer,
            "jti": secrets.token_hex(12),
            "iat": now,
            "exp": now + 60,
        }
        every = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return (key or self.key).sign({"alg": "ES256", "kid": "k1", **(header or {})}, every)

    def by_assertion(self, assertion: str, **more: str) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION, "client_assertion": assertion}
        return self.token(form | more)

    # -- DPoP ----------------------------------------------------------------------------------------------------------

    def proof(
        self, method: str, url: str, key: Key | None = None, header: Mapping[str, Any] | None = None, **claims: Any
    ) -> str:
        """RFC 9449 section 4.2, with `claims` and `header` over what is proper; None leaves one out."""
        key = key or self.key
        usual = {"jti": secrets.token_hex(12), "htm": method, "htu": url, "iat": int(time.time())}
        every = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.public, **(header or {})}
        return key.sign({name: value for name, value in head.items() if value is not None}, every)

    def with_proof(self, form: Mapping[str, str], key: Key | None = None, **more: Any) -> httpx.Response:
        """At the token endpoint, once more with the nonce where the server asks for one."""
        url = self.endpoint("token_endpoint")
        answer = self.token(form, headers={"dpop": self.proof("POST", url, key)}, **more)
        if "dpop-nonce" in answer.headers and answer.status_code == 400:
            proof = self.proof("POST", url, key, nonce=answer.headers["dpop-nonce"])
            answer = self.token(form, headers={"dpop": proof}, **more)
        return answer


VERIFIER, CHALLENGE = pkce()
PUBLIC = frozenset({"p-spa", "p-tv", "p-native"})
_SCOPES = [part for scope in ("openid", "profile", "email", "offline_access") for part in ("--scope", scope)]
_CODE = ["--grant", "authorization_code", "--grant", "refresh_token"]


def registered(bank: Running) -> Idp:
    """Registers one client of each kind by the operator's command; `close` the answer at the end."""
    idp = Idp(bank, bank.account("user"))

    def add(id: str, *options: str, secret: str | None = None) -> None:
        done = bank.run("client", "add", id, *options, "--json", input=secret or "")
        assert done.returncode == 0, done.stderr

    there = ("--redirect-uri", CALLBACK, "--post-logout-redirect-uri", SIGNED_OUT)
    with tempfile.TemporaryDirectory() as directory:
        public = Path(directory) / "key.jwk"
        public.write_text(json.dumps({**idp.key.public, "kid": "k1", "alg": "ES256", "use": "sig"}))
        add("p-jwt", "--jwk", str(public), "--grant", "client_credentials", "--grant", EXCHANGE, "--scope", "reports")
    add("p-web", "--secret-stdin", *there, *_CODE, *_SCOPES, secret=SECRET)
    add("p-two", "--secret-stdin", *there, *_CODE, *_SCOPES, secret=SECRET)
    add("p-spa", "--public", *there, *_CODE, *_SCOPES)
    add("p-native", "--public", "--redirect-uri", "http://127.0.0.1/cb", *_CODE, *_SCOPES)
    add("p-tv", "--public", "--grant", DEVICE, "--grant", "refresh_token", *_SCOPES)
    add(
        "p-api",
        "--secret-stdin",
        "--grant",
        "client_credentials",
        "--grant",
        EXCHANGE,
        "--scope",
        "reports",
        secret=SECRET,
    )
    return idp
