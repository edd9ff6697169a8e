"""Who is attacked at the identity provider: an honest shop's clients, a person with a one-time-code app; and whose
client the adversary owns. The operator registers them once, and they are taken away at the end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .model import Outcome, not_tried
from .scene import Account, Scene
from .site import Site
from .wire import Reply

CALLBACK = "https://shop.example/callback"
SIGNED_OUT = "https://shop.example/bye"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # nosec B105 - a name
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
STEP = 30.0  # seconds a one-time code is for (RFC 6238)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Pen:
    """An ES256 key that signs whatever it is given."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.jwk: Mapping[str, str] = {"kty": "EC", "crv": "P-256", "x": x, "y": y}

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def pkce() -> tuple[str, str]:
    """Verifier and challenge (RFC 7636)."""
    verifier = b64(secrets.token_bytes(32))
    return verifier, b64(hashlib.sha256(verifier.encode()).digest())


def one_time_code(secret: str, at: float) -> str:
    """RFC 6238 with SHA-1 and six digits, as authenticator apps make it."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", int(at // STEP)), "sha1")
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 1000000:06d}"


@dataclass
class Registered:
    """`shop` is confidential, `app` public, `robot` signs assertions with `pen`, `tv` has no keyboard, `own` is the
    adversary's. Each of `guarded` has a one-time-code app with `totp` as its secret.
    `changing` gets another role, `owner` is guessed at, `auditing` is an auditor whom somebody got to."""

    scene: Scene
    tag: str
    pen: Pen
    secret: str = field(repr=False)
    totp: str = field(repr=False)
    guarded: tuple[Account, ...]
    changing: Account
    owner: Account
    auditing: Account

    def client(self, name: str) -> str:
        return f"attack-{name}-{self.tag}"

    # -- what the honest ones do ------------------------------------------------------------------------------------

    def request(self, client: str = "shop", **more: str | None) -> str:
        """An authorization request's address; None leaves a parameter out."""
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client(client),
            "redirect_uri": CALLBACK,
            "scope": "openid email offline_access",
            "state": secrets.token_hex(8),
            "nonce": secrets.token_hex(8),
            "code_challenge_method": "S256",
        }
        given = {name: value for name, value in {**usual, **more}.items() if value is not None}
        return f"{self.scene.issuer}/authorize?{urlencode(given)}"

    def browser(self, role: str = "user", index: int = 0) -> Site:
        """Somebody signed in at the identity provider; not kept."""
        site = Site(self.scene)
        account = self.scene.account(role, index)
        _, challenge = pkce()
        if not site.sign_in(self.request(code_challenge=challenge), account.email, account.password):
            raise ValueError(f"the owner could not sign in: {site.page.said}")
        return site

    def code(self, site: Site, client: str = "shop", **more: str | None) -> tuple[str, str]:
        """A code for a signed-in browser, and its verifier."""
        verifier, challenge = pkce()
        at = site.sign_in(self.request(client, **{"code_challenge": challenge, **more}), "", "")
        code = answered(at).get("code", "")
        if not code:
            raise ValueError(f"no code: {at or site.page.said}")
        return code, verifier

    def token(self, form: Mapping[str, str], client: str = "", *headers: tuple[str, str]) -> Reply:
        """At the token endpoint; `shop` and `own` prove who they are with their secret, others name themselves."""
        body = dict(form)
        sent = [*FORM, *headers]
        if client in ("shop", "own"):
            pair = f"{self.client(client)}:{self.secret}".encode()
            sent.append(("Authorization", f"Basic {base64.b64encode(pair).decode()}"))
        elif client:
            body["client_id"] = self.client(client)
        return self.scene.ask("POST", "/auth/token", sent, urlencode(body).encode())

    def redeem(self, code: str, verifier: str, client: str = "shop", *headers: tuple[str, str]) -> Reply:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": verifier}
        return self.token(form, client, *headers)

    def refresh(self, token: str, client: str = "shop", *headers: tuple[str, str]) -> Reply:
        return self.token({"grant_type": "refresh_token", "refresh_token": token}, client, *headers)

    def tokens(self, site: Site, client: str = "shop") -> Mapping[str, Any]:
        reply = self.redeem(*self.code(site, client), client)
        if reply.status != 200:
            raise ValueError(f"no tokens: {reply.said}")
        document: Mapping[str, Any] = reply.json
        return document

    def post(self, name: str, form: Mapping[str, str], client: str = "", *headers: tuple[str, str]) -> Reply:
        """At another OAuth endpoint: `/auth/{name}`."""
        sent = [*FORM, *headers]
        if client:
            pair = f"{self.client(client)}:{self.secret}".encode()
            sent.append(("Authorization", f"Basic {base64.b64encode(pair).decode()}"))
        return self.scene.ask("POST", f"/auth/{name}", sent, urlencode(form).encode())

    def assertion(self, pen: Pen | None = None, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """RFC 7523 section 3, of the robot."""
        now = int(time.time())
        robot = self.client("robot")
        usual = {"iss": robot, "sub": robot, "aud": self.scene.issuer, "jti": secrets.token_hex(12), "iat": now}
        body = {**usual, "exp": now + 60, **claims}
        return (pen or self.pen).sign({"alg": "ES256", "kid": "k1", **(header or {})}, body)

    def by_assertion(self, assertion: str) -> Reply:
        form = {"client_assertion_type": ASSERTION, "client_assertion": assertion}
        return self.token({"grant_type": "client_credentials", **form})

    def proof(self, url: str, pen: Pen | None = None, method: str = "POST", **claims: Any) -> str:
        """RFC 9449 section 4.2."""
        pen = pen or self.pen
        body = {"jti": secrets.token_hex(12), "htm": method, "htu": url, "iat": int(time.time()), **claims}
        return pen.sign({"typ": "dpop+jwt", "alg": "ES256", "jwk": pen.jwk}, body)


def answered(at: str) -> dict[str, str]:
    """The parameters of an answer to the client."""
    parts = urlsplit(at)
    return {name: values[0] for name, values in parse_qs(parts.query or parts.fragment).items()}


def registered(scene: Scene) -> Registered | None:
    """Registered at the first call, then kept; None where nobody lends an operator's hand."""
    with scene.registering:
        if "registered" not in scene.notes:
            operator = scene.means.operator
            scene.notes["registered"] = None if operator is None else _register(scene)
        found: Registered | None = scene.notes["registered"]
    return found


def _register(scene: Scene) -> Registered | None:
    operator = scene.means.operator
    if operator is None:
        return None
    tag, secret, pen = secrets.token_hex(4), secrets.token_urlsafe(32), Pen()
    totp = base64.b32encode(secrets.token_bytes(20)).decode()

    def person(name: str, *options: str, role: str = "user") -> Account:
        email, password = f"attack-{name}-{tag}@{scene.trust_domain}", secrets.token_urlsafe(18)
        added = operator(["user", "add", "--email", email, "--role", role, *options], password)
        return Account(added["id"], email, password, role)

    guarded = tuple(person(f"guarded{number}", "--totp", totp) for number in range(3))
    others = person("changing"), person("owner"), person("auditing", role="audit")
    made = Registered(scene, tag, pen, secret, totp, guarded, *others)
    there = ["--redirect-uri", CALLBACK, "--post-logout-redirect-uri", SIGNED_OUT]
    code = [*there, "--grant", "authorization_code", "--grant", "refresh_token"]
    scopes = [part for scope in ("openid", "profile", "email", "offline_access") for part in ("--scope", scope)]
    machine = ["--grant", "client_credentials", "--scope", "reports"]
    operator(["client", "add", made.client("shop"), "--secret-stdin", *code, *scopes], secret)
    operator(
        ["client", "add", made.client("own"), "--secret-stdin", *code, *scopes, *machine, "--grant", EXCHANGE], secret
    )
    operator(["client", "add", made.client("app"), "--public", *code, *scopes], "")
    operator(["client", "add", made.client("tv"), "--public", "--grant", DEVICE, *scopes], "")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "key.jwk"
        file.write_text(json.dumps({**pen.jwk, "kid": "k1", "alg": "ES256", "use": "sig"}))
        operator(["client", "add", made.client("robot"), "--jwk", str(file), *machine], "")
    return made


def having(run: Callable[[Registered], Outcome]) -> Callable[[Scene], Outcome]:
    """An attack that needs them."""

    def attack(scene: Scene) -> Outcome:
        made = registered(scene)
        return not_tried("nobody registered clients to attack") if made is None else run(made)

    return attack


def unregister(scene: Scene) -> None:
    """Take the clients away and refuse the people; what fails is left, each has a name that says whose it was."""
    made: Registered | None = scene.notes.get("registered")
    operator = scene.means.operator
    if made is None or operator is None:
        return
    for name in ("shop", "own", "app", "tv", "robot"):
        _try(operator, ["client", "delete", made.client(name)])
    for account in (*made.guarded, made.changing, made.owner, made.auditing):
        _try(operator, ["user", "disable", account.email])


def _try(operator: Any, command: list[str]) -> None:
    try:
        operator(command, "")
    except (OSError, ValueError):
        return
