"""How clients prove who they are: secrets and signed assertions (RFC 6749 2.3, RFC 7523, OpenID Connect Core 9)."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable

import pytest
from tests.probe.kit import ASSERTION, SECRET, Idp, Key, hs256, unsigned

GRANT = {"grant_type": "client_credentials"}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


BAD_HEADERS = {
    "wrong-secret": basic("p-api", "wrong"),
    "empty-secret": basic("p-api", ""),
    "secret-and-more": basic("p-api", SECRET + "x"),
    "secret-cut": basic("p-api", SECRET[:-1]),
    "unknown-client": basic("nobody", SECRET),
    "empty-client": basic("", SECRET),
    "case": basic("P-API", SECRET),
    "client-of-assertions": basic("p-jwt", SECRET),
    "public-client": basic("p-spa", SECRET),
    "public-client-empty": basic("p-spa", ""),
    "no-colon": "Basic " + base64.b64encode(b"p-api").decode(),
    "not-base64": "Basic ???",
    "empty": "Basic =",
    "no-credentials": "Basic",
    "not-utf8": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    "bad-percent": "Basic " + base64.b64encode(b"p-api%zz:x").decode(),
    "nul": basic("p-api\x00", SECRET),
    "huge": basic("p-api", "x" * 5000),
    "bearer": "Bearer " + SECRET,
    "digest": 'Digest username="p-api"',
    "unknown-scheme": "Bananas x",
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_authorization_header_gets_no_token(idp: Idp, name: str) -> None:
    answer = idp.token(GRANT, headers={"authorization": BAD_HEADERS[name]})
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["error"] in ("invalid_client", "invalid_request", "unauthorized_client")
    if answer.status_code == 401:
        assert "www-authenticate" in answer.headers  # RFC 6749 section 5.2


@pytest.mark.parametrize(
    "form",
    [
        {"client_id": "p-api"},
        {"client_id": "p-api", "client_secret": ""},
        {"client_id": "p-api", "client_secret": "wrong"},
        {"client_secret": SECRET},
        {"client_id": "nobody", "client_secret": SECRET},
        {"client_id": "p-spa"},
        {"client_id": "p-jwt"},
        {},
        {"client_id": "p-jwt", "client_assertion_type": ASSERTION},
        {"client_id": "p-jwt", "client_assertion": "x.y.z"},
    ],
)
def test_a_bad_form_gets_no_token(idp: Idp, form: dict[str, str]) -> None:
    answer = idp.token(GRANT | form)
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["error"] in ("invalid_client", "invalid_request", "unauthorized_client")


def test_the_right_ones_get_one(idp: Idp) -> None:
    assert idp.token(GRANT, auth=("p-api", SECRET)).status_code == 200
    assert idp.token(GRANT | {"client_id": "p-api", "client_secret": SECRET}).status_code == 200
    assert idp.by_assertion(idp.assertion()).status_code == 200


def test_a_scope_beyond_ones_own_is_refused(idp: Idp) -> None:
    for scope in ("admin", "openid", "session", "reports admin", "*", "role:admin"):
        answer = idp.token(GRANT | {"scope": scope}, auth=("p-api", SECRET))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), scope


def test_a_clients_own_token_is_no_persons(idp: Idp) -> None:
    token = idp.token(GRANT, auth=("p-api", SECRET)).json()
    assert "refresh_token" not in token
    assert "id_token" not in token
    assert idp.userinfo(token["access_token"]).status_code in (401, 403)
    assert idp.ask("GET", "/users", headers={"authorization": f"Bearer {token['access_token']}"}).status_code in (
        401,
        403,
    )


@pytest.mark.parametrize(
    "grant",
    ["password", "implicit", "authorization_code", "refresh_token", "urn:example:nothing", "", "client_credentials "],
)
def test_a_grant_that_the_client_has_not_is_refused(idp: Idp, grant: str) -> None:
    form = {
        "grant_type": grant,
        "username": "a",
        "password": "b",
        "code": "x",
        "refresh_token": "x",
        "redirect_uri": "https://client.example/callback",
    }
    answer = idp.token(form, auth=("p-api", SECRET))
    assert answer.status_code == 400
    assert answer.json()["error"] in (
        "unsupported_grant_type",
        "unauthorized_client",
        "invalid_request",
        "invalid_grant",
    )


NOW = int(time.time())
Forge = Callable[[Idp], str]
CLAIMS = {"iss": "p-jwt", "sub": "p-jwt", "aud": "x", "jti": "j", "iat": NOW, "exp": NOW + 60}


def _full(i: Idp) -> dict[str, object]:
    return {**CLAIMS, "aud": i.issuer, "jti": secrets.token_hex(8)}


FORGED: dict[str, Forge] = {
    "none": lambda i: unsigned({"alg": "none"}, _full(i)),
    "None": lambda i: unsigned({"alg": "None"}, _full(i)),
    "no-alg": lambda i: unsigned({}, _full(i)),
    "none-with-signature": lambda i: unsigned({"alg": "none"}, _full(i), "AAAA"),
    "cut-signature": lambda i: i.assertion().rpartition(".")[0] + ".",
    "zero-signature": lambda i: i.assertion().rpartition(".")[0] + "." + "A" * 86,
    "hs256-with-public-jwk": lambda i: hs256(
        {"alg": "HS256", "kid": "k1"}, _full(i), json.dumps(i.key.public).encode()
    ),
    "hs256-with-x": lambda i: hs256({"alg": "HS256", "kid": "k1"}, _full(i), i.key.public["x"].encode()),
    "hs256-with-empty": lambda i: hs256({"alg": "HS256"}, _full(i), b""),
    "another-key": lambda i: i.assertion(Key()),
    "another-key-with-jwk": lambda i: i.assertion(i.other, {"jwk": i.other.public}),
    "another-key-with-jku": lambda i: i.assertion(i.other, {"jku": "https://evil.example/keys"}),
    "another-key-with-x5u": lambda i: i.assertion(i.other, {"x5u": "https://evil.example/x"}),
    "unknown-kid": lambda i: i.assertion(i.other, {"kid": "nobody"}),
    "kid-path": lambda i: i.assertion(i.other, {"kid": "../../../../dev/null"}),
    "kid-number": lambda i: i.assertion(i.other, {"kid": 7}),
    "alg-es512": lambda i: i.assertion(header={"alg": "ES512"}),
    "alg-rs256": lambda i: i.assertion(header={"alg": "RS256"}),
    "alg-list": lambda i: i.assertion(header={"alg": ["ES256"]}),
    "unknown-crit": lambda i: i.assertion(header={"crit": ["bananas"], "bananas": True}),
    "empty-crit": lambda i: i.assertion(header={"crit": []}),
    "b64-false": lambda i: i.assertion(header={"b64": False, "crit": ["b64"]}),
    "wrong-aud": lambda i: i.assertion(aud="https://another.example"),
    "no-aud": lambda i: i.assertion(aud=None),
    "aud-prefix": lambda i: i.assertion(aud=i.issuer[:-1]),
    "aud-among-others": lambda i: i.assertion(aud=["https://evil.example", i.issuer]),
    "aud-number": lambda i: i.assertion(aud=7),
    "wrong-iss": lambda i: i.assertion(iss="p-api"),
    "wrong-sub": lambda i: i.assertion(sub="p-api"),
    "no-iss": lambda i: i.assertion(iss=None),
    "no-sub": lambda i: i.assertion(sub=None),
    "expired": lambda i: i.assertion(exp=NOW - 600, iat=NOW - 700),
    "no-exp": lambda i: i.assertion(exp=None),
    "exp-word": lambda i: i.assertion(exp="tomorrow"),
    "exp-far": lambda i: i.assertion(exp=NOW + 10 * 86400),
    "exp-huge": lambda i: i.assertion(exp=10**400),
    "exp-true": lambda i: i.assertion(exp=True),
    "nbf-future": lambda i: i.assertion(nbf=NOW + 3600),
    "iat-future": lambda i: i.assertion(iat=NOW + 3600, exp=NOW + 3660),
    "no-jti": lambda i: i.assertion(jti=None),
    "empty-jti": lambda i: i.assertion(jti=""),
    "jti-object": lambda i: i.assertion(jti={"a": 1}),
    "claims-twice": lambda i: i.key.sign(
        {"alg": "ES256", "kid": "k1"}, json.dumps(_full(i)).replace('"p-jwt"', '"p-api", "iss": "p-jwt"', 1).encode()
    ),
    "claims-list": lambda i: i.key.sign({"alg": "ES256", "kid": "k1"}, b"[]"),
    "claims-text": lambda i: i.key.sign({"alg": "ES256", "kid": "k1"}, b"nothing"),
    "four-parts": lambda i: i.assertion() + ".x",
    "two-parts": lambda i: i.assertion().rpartition(".")[0],
    "json-form": lambda i: json.dumps(
        dict(zip(("protected", "payload", "signature"), i.assertion().split("."), strict=True))
    ),
    "padding": lambda i: i.assertion().replace(".", "=.", 1),
    "whitespace": lambda i: " " + i.assertion(),
    "empty": lambda i: "",
    "dots": lambda i: "..",
    "huge": lambda i: "A" * 12000,
    "a-persons-token": lambda i: str(i.tokens()["id_token"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_assertion_gets_no_token(idp: Idp, name: str) -> None:
    answer = idp.by_assertion(FORGED[name](idp))
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["error"] in ("invalid_client", "invalid_request")


def test_an_assertion_is_good_once(idp: Idp) -> None:
    assertion = idp.assertion()
    assert idp.by_assertion(assertion).status_code == 200
    assert idp.by_assertion(assertion).status_code in (400, 401)


def test_an_assertion_counts_for_its_client_only(idp: Idp) -> None:
    assert idp.by_assertion(idp.assertion(), client_id="p-api").status_code in (400, 401)
    form = GRANT | {"client_assertion_type": "urn:example:other", "client_assertion": idp.assertion()}
    assert idp.token(form).status_code in (400, 401)
    assert idp.token(
        GRANT | {"client_assertion_type": ASSERTION, "client_assertion": idp.assertion()}, auth=("p-api", SECRET)
    ).status_code in (400, 401)
