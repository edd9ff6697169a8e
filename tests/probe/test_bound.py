"""Sender-constrained tokens, pushed requests, device codes, exchange (RFC 9449, 9126, 8628, 8693)."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.probe.kit import ACCESS_TOKEN, CALLBACK, DEVICE, EXCHANGE, SECRET, VERIFIER, Idp, Key, b64, hs256, unsigned

GRANT = {"grant_type": "client_credentials"}
NOW = int(time.time())


def endpoint(idp: Idp) -> str:
    return idp.endpoint("token_endpoint")


def nonce(idp: Idp) -> str:
    """One that the server gave, where it gives any."""
    answer = idp.token(GRANT, auth=("p-api", SECRET), headers={"dpop": idp.proof("POST", endpoint(idp))})
    return answer.headers.get("dpop-nonce", "")


Forge = Callable[[Idp, dict[str, Any]], str]
PROOFS: dict[str, Forge] = {
    "htm": lambda i, n: i.proof("GET", endpoint(i), **n),
    "htm-case": lambda i, n: i.proof("post", endpoint(i), **n),
    "htm-missing": lambda i, n: i.proof("POST", endpoint(i), htm=None, **n),
    "htu-host": lambda i, n: i.proof("POST", "https://evil.example/auth/token", **n),
    "htu-path": lambda i, n: i.proof("POST", i.endpoint("userinfo_endpoint"), **n),
    "htu-http": lambda i, n: i.proof("POST", endpoint(i).replace("https", "http"), **n),
    "htu-relative": lambda i, n: i.proof("POST", "/auth/token", **n),
    "htu-missing": lambda i, n: i.proof("POST", endpoint(i), htu=None, **n),
    "htu-number": lambda i, n: i.proof("POST", endpoint(i), htu=1, **n),
    "iat-old": lambda i, n: i.proof("POST", endpoint(i), iat=NOW - 3600, **n),
    "iat-future": lambda i, n: i.proof("POST", endpoint(i), iat=NOW + 3600, **n),
    "iat-missing": lambda i, n: i.proof("POST", endpoint(i), iat=None, **n),
    "iat-word": lambda i, n: i.proof("POST", endpoint(i), iat="now", **n),
    "iat-huge": lambda i, n: i.proof("POST", endpoint(i), iat=10**400, **n),
    "jti-missing": lambda i, n: i.proof("POST", endpoint(i), jti=None, **n),
    "jti-empty": lambda i, n: i.proof("POST", endpoint(i), jti="", **n),
    "jti-long": lambda i, n: i.proof("POST", endpoint(i), jti="x" * 3000, **n),
    "nonce-wrong": lambda i, n: i.proof("POST", endpoint(i), nonce="made up"),
    "nonce-list": lambda i, n: i.proof("POST", endpoint(i), nonce=[n.get("nonce")]),
    "typ-missing": lambda i, n: i.proof("POST", endpoint(i), header={"typ": None}, **n),
    "typ-jwt": lambda i, n: i.proof("POST", endpoint(i), header={"typ": "JWT"}, **n),
    "jwk-missing": lambda i, n: i.proof("POST", endpoint(i), header={"jwk": None}, **n),
    "jwk-other": lambda i, n: i.proof("POST", endpoint(i), header={"jwk": Key().public}, **n),
    "jwk-symmetric": lambda i, n: i.proof("POST", endpoint(i), header={"jwk": {"kty": "oct", "k": "AAAA"}}, **n),
    "jwk-private": lambda i, n: i.proof("POST", endpoint(i), header={"jwk": {**i.key.public, "d": "AAAA"}}, **n),
    "jwk-list": lambda i, n: i.proof("POST", endpoint(i), header={"jwk": [i.key.public]}, **n),
    "jwk-off-curve": lambda i, n: i.proof(
        "POST", endpoint(i), header={"jwk": {**i.key.public, "y": i.key.public["x"]}}, **n
    ),
    "alg-none": lambda i, n: unsigned(
        {"typ": "dpop+jwt", "alg": "none", "jwk": i.key.public},
        {"jti": "a1", "htm": "POST", "htu": endpoint(i), "iat": NOW, **n},
    ),
    "alg-hs256": lambda i, n: hs256(
        {"typ": "dpop+jwt", "alg": "HS256", "jwk": {"kty": "oct", "k": b64(b"k" * 32)}},
        {"jti": "a2", "htm": "POST", "htu": endpoint(i), "iat": NOW, **n},
        b"k" * 32,
    ),
    "crit": lambda i, n: i.proof("POST", endpoint(i), header={"crit": ["bananas"], "bananas": 1}, **n),
    "cut": lambda i, n: i.proof("POST", endpoint(i), **n)[:-6],
    "text": lambda i, n: "nonsense",
    "dots": lambda i, n: "..",
    "huge": lambda i, n: "A" * 9000,
    "two-in-one": lambda i, n: f"{i.proof('POST', endpoint(i), **n)}, {i.proof('POST', endpoint(i), **n)}",
}


@pytest.mark.parametrize("name", PROOFS)
def test_a_bad_proof_gets_no_token(idp: Idp, name: str) -> None:
    got = nonce(idp)
    answer = idp.token(
        GRANT, auth=("p-api", SECRET), headers={"dpop": PROOFS[name](idp, {"nonce": got} if got else {})}
    )
    assert answer.status_code in (400, 401, 431), answer.text
    assert answer.json()["error"] in ("invalid_dpop_proof", "use_dpop_nonce", "invalid_request")


def test_a_proof_is_good_once(idp: Idp) -> None:
    got = nonce(idp)
    proof = idp.proof("POST", endpoint(idp), **({"nonce": got} if got else {}))
    assert idp.token(GRANT, auth=("p-api", SECRET), headers={"dpop": proof}).status_code == 200
    again = idp.token(GRANT, auth=("p-api", SECRET), headers={"dpop": proof})
    assert again.status_code == 400
    assert again.json()["error"] in ("invalid_dpop_proof", "use_dpop_nonce")


def test_query_and_fragment_of_the_target_do_not_matter(idp: Idp) -> None:
    """RFC 9449 section 4.3, point 9."""
    got = nonce(idp)
    proof = idp.proof("POST", endpoint(idp) + "?a=b#c", **({"nonce": got} if got else {}))
    assert idp.token(GRANT, auth=("p-api", SECRET), headers={"dpop": proof}).status_code in (200, 400)


@pytest.fixture(scope="module")
def bound(idp: Idp) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": idp.code("p-spa", scope="openid email offline_access"),
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": "p-spa",
    }
    answer = idp.with_proof(form)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document["token_type"] == "DPoP"
    return document


def at_userinfo(idp: Idp, token: str, key: Key, scheme: str = "DPoP", **claims: Any) -> int:
    url = idp.endpoint("userinfo_endpoint")
    ath = b64(hashlib.sha256(token.encode()).digest())
    answer = idp.userinfo(token, scheme, dpop=idp.proof("GET", url, key, **{"ath": ath, **claims}))
    if answer.headers.get("dpop-nonce") and answer.status_code == 401:
        proof = idp.proof("GET", url, key, **{"ath": ath, "nonce": answer.headers["dpop-nonce"], **claims})
        answer = idp.userinfo(token, scheme, dpop=proof)
    return answer.status_code


def test_a_bound_token_needs_its_key(idp: Idp, bound: dict[str, Any]) -> None:
    token = bound["access_token"]
    assert at_userinfo(idp, token, idp.key) == 200
    assert at_userinfo(idp, token, idp.other) == 401
    assert at_userinfo(idp, token, idp.key, ath=b64(b"x" * 32)) == 401
    assert at_userinfo(idp, token, idp.key, ath=None) == 401
    assert idp.userinfo(token).status_code == 401
    assert idp.userinfo(token, "DPoP").status_code == 401
    assert at_userinfo(idp, token, idp.key, scheme="Bearer") == 401


def test_a_bound_refresh_token_of_a_public_client_needs_its_key(idp: Idp, bound: dict[str, Any]) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": bound["refresh_token"], "client_id": "p-spa"}
    assert idp.token(form).status_code == 400
    assert idp.with_proof(form, idp.other).status_code == 400
    assert idp.with_proof(form, idp.key).status_code == 200


def test_a_code_bound_to_a_key_needs_it(idp: Idp) -> None:
    """RFC 9449 section 10."""
    code = idp.code("p-spa", dpop_jkt=idp.key.thumbprint)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": "p-spa",
    }
    assert idp.with_proof(form, idp.other).status_code == 400


# -- pushed requests ----------------------------------------------------------


def push(idp: Idp, auth: tuple[str, str] | None = ("p-web", SECRET), **more: str | None) -> Any:
    return idp.ask(
        "POST", idp.endpoint("pushed_authorization_request_endpoint"), data=idp.parameters(**more), auth=auth
    )


def pushed_url(idp: Idp, uri: str, client: str = "p-web") -> str:
    return f"{idp.endpoint('authorization_endpoint')}?client_id={client}&request_uri={uri}"


def test_a_pushed_request_is_used_once(idp: Idp) -> None:
    answer = push(idp)
    assert answer.status_code == 201
    assert 5 <= answer.json()["expires_in"] <= 600
    uri = answer.json()["request_uri"]
    assert isinstance(idp.browser.open(pushed_url(idp, uri)), str)
    again = idp.browser.open(pushed_url(idp, uri))
    assert not isinstance(again, str) or "error=" in again


def test_a_pushed_request_is_its_clients_only(idp: Idp) -> None:
    uri = push(idp).json()["request_uri"]
    answer = idp.ask("GET", pushed_url(idp, uri, "p-two"))
    assert answer.status_code == 400 or "error=" in answer.headers["location"]


@pytest.mark.parametrize(
    ("more", "auth"),
    [
        ({}, None),
        ({}, ("p-web", "wrong")),
        ({}, ("p-two", SECRET)),
        ({"redirect_uri": "https://evil.example/"}, ("p-web", SECRET)),
        ({"response_type": "token"}, ("p-web", SECRET)),
        ({"code_challenge": None}, ("p-web", SECRET)),
        ({"code_challenge_method": "plain"}, ("p-web", SECRET)),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, ("p-web", SECRET)),
        ({"scope": "openid everything"}, ("p-web", SECRET)),
        ({"client_id": "p-two"}, ("p-web", SECRET)),
        ({"redirect_uri": None}, ("p-web", SECRET)),
        ({"request": "a.b.c"}, ("p-web", SECRET)),
    ],
)
def test_a_bad_request_is_refused_when_pushed(
    idp: Idp, more: dict[str, str | None], auth: tuple[str, str] | None
) -> None:
    answer = push(idp, auth, **more)
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["error"]
    assert "request_uri" not in answer.json()


def test_parameters_beside_a_pushed_request_change_nothing(idp: Idp) -> None:
    uri = push(idp, scope="openid").json()["request_uri"]
    at = idp.browser.open(pushed_url(idp, uri) + "&redirect_uri=https%3A%2F%2Fevil.example%2F&scope=openid+email")
    assert not isinstance(at, str) or at.startswith(CALLBACK)


# -- device ----------------------------------------------------------


def device(idp: Idp, client: str = "p-tv", **more: str) -> Any:
    form = {"client_id": client, "scope": "openid", **more}
    return idp.ask("POST", idp.endpoint("device_authorization_endpoint"), data=form)


def poll(idp: Idp, code: str, client: str = "p-tv") -> Any:
    return idp.token({"grant_type": DEVICE, "device_code": code, "client_id": client})


def test_a_device_waits_and_is_told_to_slow_down(idp: Idp) -> None:
    started = device(idp).json()
    assert {"device_code", "user_code", "verification_uri", "expires_in"} <= set(started)
    assert poll(idp, started["device_code"]).json()["error"] == "authorization_pending"
    assert poll(idp, started["device_code"]).json()["error"] == "slow_down"


def test_user_codes_are_hard_to_guess_and_easy_to_read(idp: Idp) -> None:
    codes = {device(idp).json()["user_code"] for _ in range(8)}
    assert len(codes) == 8
    for code in codes:
        assert len(code.replace("-", "")) >= 8


@pytest.mark.parametrize(
    ("code", "client"),
    [
        ("unknown", "p-tv"),
        ("", "p-tv"),
        ("x" * 5000, "p-tv"),
        ("\x00", "p-tv"),
        ("unknown", "p-spa"),
        ("unknown", "nobody"),
    ],
)
def test_polling_with_nonsense_is_refused(idp: Idp, code: str, client: str) -> None:
    answer = poll(idp, code, client)
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] in (
        "invalid_grant",
        "invalid_request",
        "unauthorized_client",
        "invalid_client",
        "expired_token",
    )


def test_a_user_code_is_no_device_code_and_another_client_has_no_use_for_one(idp: Idp) -> None:
    started = device(idp).json()
    assert poll(idp, started["user_code"]).status_code == 400
    answer = idp.token({"grant_type": DEVICE, "device_code": started["device_code"]}, auth=("p-web", SECRET))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "more", [{"client_id": "nobody"}, {"client_id": "p-spa"}, {"scope": "everything"}, {"client_id": ""}]
)
def test_a_bad_device_request_is_refused(idp: Idp, more: dict[str, str]) -> None:
    assert device(idp, **more).status_code in (400, 401) if "client_id" not in more else True
    form = {"client_id": "p-tv", "scope": "openid", **more}
    answer = idp.ask("POST", idp.endpoint("device_authorization_endpoint"), data=form)
    assert answer.status_code in (400, 401)


# -- exchange ----------------------------------------------------------


def exchange(idp: Idp, token: str, auth: tuple[str, str] = ("p-api", SECRET), **more: str) -> Any:
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **more}
    return idp.token(form, auth=auth)


def test_an_exchanged_token_names_person_and_actor_and_grants_no_more(idp: Idp) -> None:
    session = idp.bank.token("user")
    answer = exchange(idp, session)
    if answer.status_code == 200:
        claims = json.loads(base64.urlsafe_b64decode(answer.json()["access_token"].split(".")[1] + "=="))
        assert claims["sub"] == idp.person["user_id"]
        assert claims["act"]
        assert "refresh_token" not in answer.json()
    else:
        assert answer.json()["error"] in (
            "invalid_target",
            "invalid_request",
            "unauthorized_client",
            "invalid_scope",
            "invalid_grant",
        )


@pytest.mark.parametrize(
    "more",
    [
        {"subject_token": "nonsense"},
        {"subject_token": ""},
        {"subject_token_type": "urn:example:x"},
        {"subject_token_type": ""},
        {"scope": "admin"},
        {"scope": "session admin"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"audience": "https://evil.example"},
        {"resource": "nonsense"},
        {"actor_token": "x"},
        {"actor_token": "x", "actor_token_type": ACCESS_TOKEN},
        {"subject_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.", "subject_token_type": ACCESS_TOKEN},
    ],
)
def test_a_bad_exchange_is_refused(idp: Idp, more: dict[str, str]) -> None:
    answer = exchange(idp, idp.bank.token("user"), **more)
    assert answer.status_code in (400, 401), answer.text


def test_a_client_without_the_grant_exchanges_nothing(idp: Idp) -> None:
    answer = exchange(idp, idp.bank.token("user"), ("p-web", SECRET))
    assert answer.json()["error"] == "unauthorized_client"
    form = {
        "grant_type": EXCHANGE,
        "subject_token": idp.bank.token("user"),
        "subject_token_type": ACCESS_TOKEN,
        "client_id": "p-spa",
    }
    assert idp.token(form).status_code in (400, 401)


def test_an_id_token_or_refresh_token_is_no_access_token(idp: Idp) -> None:
    tokens = idp.tokens()
    for name in ("id_token", "refresh_token"):
        assert exchange(idp, tokens[name]).status_code == 400
