"""Strict verification: each rule has a token that breaks it alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.crypto.jose import (
    ALGORITHMS,
    Jwks,
    SigningKey,
    explain_token_failure,
    verify_access_token,
    verify_jwt,
)
from rempart.crypto.jws import MAX_TOKEN
from rempart.kernel.errors import BadInput, Unauthenticated

ISSUER, AUDIENCE, NOW = "https://localhost:8443/auth", "bank.example", 1_700_000_000.0
KEY = SigningKey.generate("RS256")
JWKS = Jwks.of(KEY)
GOOD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "usr_1", "role": "user", "scope": "wallet payments",
        "iat": int(NOW), "exp": int(NOW) + 60, "auth_time": int(NOW), "amr": ["pwd"], "jti": "tok_1"}  # fmt: skip


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: str | dict[str, Any], payload: str | dict[str, Any], key: SigningKey = KEY) -> str:
    """A token with a right signature over any header and payload text."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    head = header if isinstance(header, str) else json.dumps(header)
    body = payload if isinstance(payload, str) else json.dumps(payload)
    text = f"{b64(head.encode())}.{b64(body.encode())}"
    private: Any = key._key.private_key  # a test forges with the raw key
    return f"{text}.{b64(private.sign(text.encode(), PKCS1v15(), SHA256()))}"


HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}


def why(token: str, now: float = NOW, **kwargs: Any) -> str:
    return explain_token_failure(token, JWKS, ISSUER, AUDIENCE, now, **kwargs)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_verifies_with_the_published_key_of_each_algorithm(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    jwks = Jwks.parse(json.dumps(Jwks.of(key).export()))
    claims = verify_access_token(key.sign({**GOOD, "payment_limit": 500}), jwks, ISSUER, AUDIENCE, NOW)
    assert (claims.subject, claims.role, claims.scope, claims.payment_limit) == (
        "usr_1", "user", ("wallet", "payments"), 500)  # fmt: skip
    assert claims.expires_at == NOW + 60
    assert SigningKey.load(key.dump()).kid == key.kid


@pytest.mark.parametrize(
    ("header", "payload", "reason"),
    [
        ({**HEADER, "crit": ["exp"]}, GOOD, "header not allowed: 'crit'"),
        ({**HEADER, "jku": "https://evil"}, GOOD, "header not allowed: 'jku'"),
        ({**HEADER, "jwk": KEY.public_jwk()}, GOOD, "header not allowed: 'jwk'"),
        ({**HEADER, "x5u": "https://evil"}, GOOD, "header not allowed: 'x5u'"),
        ({**HEADER, "b64": False, "crit": ["b64"]}, GOOD, "header not allowed: 'b64'"),
        ({**HEADER, "typ": "JWT"}, GOOD, "wrong type"),
        ({k: v for k, v in HEADER.items() if k != "typ"}, GOOD, "wrong type"),
        ({**HEADER, "alg": "none"}, GOOD, "algorithm not allowed"),
        ({**HEADER, "alg": "RS512"}, GOOD, "algorithm not allowed"),
        ({**HEADER, "alg": ["RS256"]}, GOOD, "algorithm not allowed"),
        ({**HEADER, "alg": "ES256"}, GOOD, "algorithm not allowed: the key is for another"),
        ({**HEADER, "kid": "../../etc/passwd"}, GOOD, "unknown key"),
        ({k: v for k, v in HEADER.items() if k != "kid"}, GOOD, "unknown key"),
        (HEADER, {k: v for k, v in GOOD.items() if k != "exp"}, "no exp"),
        (HEADER, {**GOOD, "exp": "9999999999"}, "malformed: exp is not a time"),
        (HEADER, {**GOOD, "exp": True}, "malformed: exp is not a time"),
        (HEADER, json.dumps(GOOD)[:-1] + ', "exp": 1e999}', "twice"),
        (HEADER, {**GOOD, "exp": int(NOW) - 6}, "expired"),
        (HEADER, {**GOOD, "nbf": int(NOW) + 60}, "not yet valid: nbf"),
        (HEADER, {**GOOD, "iat": int(NOW) + 60}, "not yet valid: iat"),
        (HEADER, {**GOOD, "iss": ISSUER + "/"}, "wrong issuer"),
        (HEADER, {**GOOD, "aud": "bank.example.evil"}, "wrong audience"),
        (HEADER, {**GOOD, "aud": ["shop.example"]}, "wrong audience"),
        (HEADER, {k: v for k, v in GOOD.items() if k != "aud"}, "wrong audience"),
        (HEADER, {**GOOD, "sub": 7}, "malformed: no sub"),
        (HEADER, {**GOOD, "role": ["admin"]}, "malformed: role"),
        (HEADER, {**GOOD, "payment_limit": True}, "malformed: payment_limit"),
        (HEADER, {**GOOD, "payment_limit": -1}, "malformed: payment_limit"),
        (HEADER, json.dumps(GOOD)[:-1] + ', "role": "admin"}', "give a name twice"),
        (json.dumps(HEADER)[:-1] + ', "alg": "RS256"}', GOOD, "give a name twice"),
        (HEADER, "[" * 3000, "not strict JSON"),
        (HEADER, "[]", "not an object"),
        ("7", GOOD, "not an object"),
    ],
)
def test_each_rule_refuses_the_token_that_breaks_it(header: Any, payload: Any, reason: str) -> None:
    token = signed(header, payload)
    assert reason in why(token)
    with pytest.raises(Unauthenticated) as refusal:
        verify_access_token(token, JWKS, ISSUER, AUDIENCE, NOW)
    assert refusal.value.code == "invalid_token"


def test_the_untouched_forgery_helper_makes_a_token_that_passes() -> None:
    assert why(signed(HEADER, GOOD)) == ""


def test_the_public_key_is_no_hmac_secret() -> None:
    """CVE-2015-9235: HS256 with the RSA public key as the secret."""
    secret = json.dumps(KEY.public_jwk()).encode()
    text = f"{b64(json.dumps({**HEADER, 'alg': 'HS256'}).encode())}.{b64(json.dumps(GOOD).encode())}"
    token = f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"
    assert why(token) == "algorithm not allowed"


def test_any_changed_character_is_refused() -> None:
    token = KEY.sign(GOOD)
    head, payload, signature = token.split(".")
    other = b64(json.dumps({**GOOD, "role": "admin"}).encode())
    assert why(f"{head}.{other}.{signature}") == "bad signature"
    assert why(f"{head}.{payload}.{signature[:-2]}AA") == "bad signature"
    assert why(f"{head}.{payload}.{signature}=") == "malformed: not three parts"
    assert why(f"{head}.{payload}.") == "malformed: not three parts"
    assert why(f"{head}.{payload}") == "malformed: not three parts"
    assert why(f"{token}.x") == "malformed: not three parts"
    assert why(KEY.sign(GOOD).replace(".", "․")) == "malformed: too long or not ASCII"


def test_another_key_under_the_same_kid_is_a_bad_signature() -> None:
    other = SigningKey.generate("RS256")
    assert why(signed(HEADER, GOOD, other)) == "bad signature"


def test_size_and_leeway_are_bounded() -> None:
    assert why(KEY.sign({**GOOD, "x": "y" * MAX_TOKEN})).startswith("malformed: too long")
    started = time.perf_counter()
    why("a" * 10_000_000)
    assert time.perf_counter() - started < 0.1
    with pytest.raises(BadInput):
        verify_access_token(KEY.sign(GOOD), JWKS, ISSUER, AUDIENCE, NOW, leeway=61)
    expired = KEY.sign({**GOOD, "exp": int(NOW) - 30})
    assert why(expired) == "expired"
    assert why(expired, leeway=60) == ""


def test_one_kind_of_token_never_passes_for_another() -> None:
    identity = KEY.sign({**GOOD}, typ="JWT")
    assert why(identity).startswith("wrong type")
    assert verify_jwt(identity, JWKS, typ="JWT", issuer=ISSUER, audience=AUDIENCE, now=NOW)["sub"] == "usr_1"


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [7]}', b'{"keys": [], "keys": []}',
        json.dumps({"keys": [KEY.dump()]}).encode(),
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}).encode(),
        json.dumps({"keys": [KEY.public_jwk(), KEY.public_jwk()]}).encode(),
        json.dumps({"keys": [{**KEY.public_jwk(), "kid": None}]}).encode(),
        json.dumps({"keys": [{**KEY.public_jwk(), "n": "AQAB"}]}).encode(),
        json.dumps({"keys": [{**KEY.public_jwk(), "n": "A" * 100_000}]}).encode(),
        json.dumps({"keys": [{**KEY.public_jwk(), "n": "!" * 342}]}).encode(),
        json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "e"}]}).encode(),
        json.dumps({"keys": [KEY.public_jwk()] * 65}).encode(),
    ],
)  # fmt: skip
def test_a_key_set_that_is_not_right_is_refused(document: bytes) -> None:
    with pytest.raises(BadInput, match=r"bad_jwks|bad_json"):
        Jwks.parse(document)


def test_keys_of_other_kinds_are_passed_over() -> None:
    """RFC 7517 section 5."""
    others = [{"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AA"}, {**KEY.public_jwk(), "use": "enc"}]
    assert Jwks.parse({"keys": [*others, KEY.public_jwk()]}).kids() == (KEY.kid,)


def test_rfc_7638_thumbprint_is_the_key_id() -> None:
    """RFC 7638 section 3.1, the published example."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
        "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk: Any = {"kty": "RSA", "e": "AQAB", "n": modulus}
    from joserfc.jwk import RSAKey

    assert RSAKey.import_key(jwk).thumbprint() == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert Jwks.parse({"keys": [KEY.public_jwk()]}).kids() == (RSAKey.import_key(KEY.public_jwk()).thumbprint(),)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=300), st.from_regex(r"[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{1,80}"))
)
def test_no_text_passes_and_none_raises_anything_else(text: str) -> None:
    assert why(text) != ""
    with pytest.raises(Unauthenticated):
        verify_access_token(text, JWKS, ISSUER, AUDIENCE, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([*GOOD, "nbf", "payment_limit"]), json_values)
def test_any_value_in_any_claim_is_judged_without_a_crash(name: str, value: Any) -> None:
    reason = why(signed(HEADER, {**GOOD, name: value}))
    assert "malformed: TypeError" not in reason
    assert "Error" not in reason


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["alg", "typ", "kid", "crit", "jwk", "x5c"]), json_values)
def test_any_value_in_any_header_is_judged_without_a_crash(name: str, value: Any) -> None:
    if HEADER.get(name) == value:
        return
    reason = why(signed({**HEADER, name: value}, GOOD))
    assert reason
    assert "Error" not in reason
