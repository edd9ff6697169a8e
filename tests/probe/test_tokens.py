"""Forged and misused tokens where they are taken: userinfo, introspection, exchange (RFC 8725, RFC 9068 section 4)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.probe.kit import ACCESS_TOKEN, EXCHANGE, SECRET, Idp, decoded, hs256, unsigned


@pytest.fixture(scope="module")
def tokens(idp: Idp) -> dict[str, Any]:
    return idp.tokens()


def rsa_jwk(idp: Idp) -> dict[str, str]:
    keys: list[dict[str, str]] = idp.ask("GET", idp.metadata["jwks_uri"]).json()["keys"]
    return keys[0]


def pem(jwk: Mapping[str, str]) -> bytes:
    n, e = (int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "=="), "big") for name in ("n", "e"))
    key = rsa.RSAPublicNumbers(e, n).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


Forge = Callable[[Idp, str, dict[str, Any], dict[str, Any]], str]
FORGED: dict[str, Forge] = {
    "none": lambda i, t, h, c: unsigned({**h, "alg": "none"}, c),
    "none-case": lambda i, t, h, c: unsigned({**h, "alg": "NoNe"}, c),
    "none-keeps-signature": lambda i, t, h, c: unsigned({**h, "alg": "none"}, c, t.split(".")[2]),
    "no-alg": lambda i, t, h, c: unsigned({"typ": "at+jwt"}, c),
    "signature-cut": lambda i, t, h, c: t.rpartition(".")[0] + ".",
    "signature-short": lambda i, t, h, c: t[:-8],
    "signature-flipped": lambda i, t, h, c: t[:-20] + ("A" if t[-20] != "A" else "B") + t[-19:],
    "claims-changed": lambda i, t, h, c: (
        f"{t.split('.')[0]}.{unsigned({}, {**c, 'sub': 'usr_x'}).split('.')[1]}.{t.split('.')[2]}"
    ),
    "hs256-pem": lambda i, t, h, c: hs256({**h, "alg": "HS256"}, c, pem(rsa_jwk(i))),
    "hs256-jwk": lambda i, t, h, c: hs256({**h, "alg": "HS256"}, c, json.dumps(rsa_jwk(i)).encode()),
    "hs256-empty": lambda i, t, h, c: hs256({**h, "alg": "HS256"}, c, b""),
    "own-key": lambda i, t, h, c: i.other.sign({**h, "alg": "ES256"}, c),
    "own-key-jwk": lambda i, t, h, c: i.other.sign({**h, "alg": "ES256", "jwk": i.other.public}, c),
    "own-key-jku": lambda i, t, h, c: i.other.sign({**h, "alg": "ES256", "jku": "https://evil.example/k"}, c),
    "own-key-x5c": lambda i, t, h, c: i.other.sign({**h, "alg": "ES256", "x5c": ["AAAA"]}, c),
    "own-key-no-kid": lambda i, t, h, c: i.other.sign({"alg": "ES256", "typ": "at+jwt"}, c),
    "a-clients-key": lambda i, t, h, c: i.key.sign({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}, c),
    "crit": lambda i, t, h, c: i.other.sign({**h, "alg": "ES256", "crit": ["x"], "x": 1}, c),
    "jwe": lambda i, t, h, c: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA",
    "json": lambda i, t, h, c: json.dumps(dict(zip(("protected", "payload", "signature"), t.split("."), strict=True))),
    "padded": lambda i, t, h, c: t.replace(".", "=.", 1),
    "base64-not-url": lambda i, t, h, c: t.replace("-", "+").replace("_", "/") if {"-", "_"} & set(t) else t + "=",
    "whitespace": lambda i, t, h, c: t.replace(".", ". ", 1),
    "four-parts": lambda i, t, h, c: t + ".AAAA",
    "opaque": lambda i, t, h, c: "A" * 43,
    "long": lambda i, t, h, c: "A" * 7000 + t,
    "dots": lambda i, t, h, c: "..",
}


def active(idp: Idp, token: str) -> bool:
    answer = idp.ask("POST", idp.endpoint("introspection_endpoint"), data={"token": token}, auth=("p-web", SECRET))
    return answer.status_code == 200 and bool(answer.json()["active"])


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_access_token_is_nowhere_good(idp: Idp, tokens: dict[str, Any], name: str) -> None:
    token = tokens["access_token"]
    forged = FORGED[name](idp, token, *decoded(token))
    assert forged != token
    if "\n" not in forged and forged.strip() == forged:
        answer = idp.userinfo(forged)
        assert answer.status_code in (400, 401), answer.text
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith(("Bearer", "DPoP"))
    assert not active(idp, forged)
    form = {"grant_type": EXCHANGE, "subject_token": forged, "subject_token_type": ACCESS_TOKEN}
    assert idp.token(form, auth=("p-api", SECRET)).status_code == 400


@pytest.mark.parametrize("name", ["id_token", "refresh_token"])
def test_another_kind_of_token_is_no_access_token(idp: Idp, tokens: dict[str, Any], name: str) -> None:
    assert idp.userinfo(tokens[name]).status_code == 401
    headers = {"authorization": f"Bearer {tokens[name]}"}
    assert idp.ask("GET", f"/wallet?user_id={idp.person['user_id']}", headers=headers).status_code in (401, 403)


def test_a_clients_token_opens_no_service(idp: Idp, tokens: dict[str, Any]) -> None:
    """What a person gave to another program is not their session."""
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    for path in (
        f"/wallet?user_id={idp.person['user_id']}",
        "/users",
        "/logs",
        "/metrics",
        "/auth/account",
        "/auth/factors",
    ):
        assert idp.ask("GET", path, headers=headers).status_code in (303, 401, 403), path


def test_a_token_in_the_address_or_in_two_places_is_none(idp: Idp, tokens: dict[str, Any]) -> None:
    url, token = idp.endpoint("userinfo_endpoint"), tokens["access_token"]
    assert idp.ask("GET", url, params={"access_token": token}).status_code == 401
    assert idp.ask("POST", url, data={"access_token": token}).status_code in (400, 401)
    twice = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    assert idp.ask("GET", url, headers=twice).status_code in (400, 401)


def test_lifetimes_are_short_and_said(idp: Idp, tokens: dict[str, Any]) -> None:
    _, access = decoded(tokens["access_token"])
    _, identity = decoded(tokens["id_token"])
    now = time.time()
    assert tokens["expires_in"] == access["exp"] - access["iat"] <= 3600
    assert now - 120 < access["iat"] <= now + 5
    assert identity["exp"] - identity["iat"] <= 3600
    assert access["jti"] != decoded(idp.tokens()["access_token"])[1]["jti"]


def test_userinfo_tells_no_more_than_its_scopes(idp: Idp) -> None:
    assert set(idp.userinfo(idp.tokens(scope="openid")["access_token"]).json()) == {"sub"}
    told = idp.userinfo(idp.tokens(scope="openid email")["access_token"]).json()
    assert {"sub", "email"} <= set(told)
    assert not {"role", "payment_limit", "name"} & set(told)


def test_a_token_without_openid_is_not_for_userinfo(idp: Idp) -> None:
    answer = idp.redeem(idp.code(scope="email"))
    assert idp.userinfo(answer.json()["access_token"]).status_code in (401, 403)
