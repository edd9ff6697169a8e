"""The strict reader of JSON Web Signatures, against Wycheproof's vectors and against confusion of every kind."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rempart.crypto.jose import SigningKey
from rempart.crypto.jws import SIGNATURES, Compact, Malformed, PublicKey, parse_compact, thumbprint
from rempart.kernel.errors import BadInput

VECTORS = Path(__file__).parent / "vectors"
MEMBERS = frozenset({"alg", "kid", "typ"})
STRICTER = {259, 272, 346, 350}
"""Valid by RFC 7515 and refused here: an empty payload (259, 272), and PS384 under a key for PS256 (346, 350)."""


def groups(name: str) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((VECTORS / name).read_text())
    listed: list[dict[str, Any]] = document["groups"]
    return listed


def accepts(public: dict[str, Any], token: str) -> bool:
    try:
        parsed = parse_compact(token, MEMBERS, SIGNATURES)
        return PublicKey.load(public).verifies(parsed)
    except (Malformed, BadInput):
        return False


@pytest.mark.parametrize("group", groups("wycheproof_jws.json"), ids=lambda group: str(group["tests"][0][0]))
def test_wycheproof_json_web_signatures(group: dict[str, Any]) -> None:
    for number, comment, token, result in group["tests"]:
        public = {name: value for name, value in group["public"].items() if name != "d"}
        text = token if isinstance(token, str) else json.dumps(token)
        assert accepts(public, text) == (result == "valid" and number not in STRICTER), (number, comment)


def test_wycheproof_ecdsa_in_the_form_of_jws() -> None:
    """Among them the "psychic" signatures (r or s of 0), values beyond the order, and other lengths."""
    for group in groups("wycheproof_es256.json"):
        key = PublicKey.load(group["public"])
        for number, comment, message, signature, result in group["tests"]:
            token = Compact({"alg": "ES256"}, "", bytes.fromhex(message), bytes.fromhex(signature))
            assert key.verifies(token) == (result == "valid"), (number, comment)


KEYS = {algorithm: SigningKey.generate(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}


TWICE = ('{"alg":"ES256","alg":"none"}', '{"alg":"none","alg":"ES256"}')


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_verifies_its_own_algorithm_only(algorithm: str) -> None:
    signed = {name: parse_compact(key.sign({"a": 1}), MEMBERS, SIGNATURES) for name, key in KEYS.items()}
    key = PublicKey.load(KEYS[algorithm].public_jwk())
    assert [name for name, token in signed.items() if key.verifies(token)] == [algorithm]


def test_an_rsa_key_that_names_no_algorithm_has_both_and_one_that_names_one_has_that() -> None:
    bare = {name: value for name, value in KEYS["RS256"].public_jwk().items() if name != "alg"}
    assert PublicKey.load(bare).algorithms == {"RS256", "PS256"}
    assert PublicKey.load({**bare, "alg": "PS256"}).algorithms == {"PS256"}
    for algorithm in ("RS512", "ES256", "HS256", "none", 7):
        with pytest.raises(BadInput):
            PublicKey.load({**bare, "alg": algorithm})


@pytest.mark.parametrize(
    "change",
    [
        {"d": "AAAA"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-384"},
        {"kty": "OKP", "crv": "X25519"},
        {"kty": "OKP", "crv": "Ed448"},
        {"kty": None},
        {"kty": ["EC"]},
        {"x": 7},
        {"x": None},
        {"x": "AAAA"},
        {"y": "A" * 43},
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
    ],
)
def test_a_key_that_is_not_right_is_refused(change: dict[str, Any]) -> None:
    jwk = {name: value for name, value in KEYS["ES256"].public_jwk().items() if name != "alg"}
    with pytest.raises(BadInput) as refusal:
        PublicKey.load({**jwk, **change})
    assert refusal.value.code == "bad_key"


def test_rfc_7638_thumbprint() -> None:
    """RFC 7638 section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5haj"
        "rn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert PublicKey.load(jwk).thumbprint() == thumbprint(jwk)


def test_every_other_serialisation_and_encoding_is_refused() -> None:
    token = KEYS["ES256"].sign({"a": 1})
    head, payload, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))

    def encoded(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    for other in (
        json.dumps({"payload": payload, "protected": head, "signature": signature}),
        json.dumps({"payload": payload, "signatures": [{"protected": head, "signature": signature}]}),
        f"{head}.{payload}",
        f"{head}.{payload}.",
        f"{head}..{signature}",
        f".{payload}.{signature}",
        f"{token}.{signature}",
        f"{head}.{payload}.{signature}=",
        f"{head}.{payload}.{signature}\n",
        f" {token}",
        f"{head}.{payload}.{signature[:-1]}",
        token.replace("-", "+").replace("_", "/") + "+",
        f"{encoded({**header, 'crit': ['exp'], 'exp': 1})}.{payload}.{signature}",
        f"{encoded({**header, 'b64': False, 'crit': ['b64']})}.{payload}.{signature}",
        f"{encoded({**header, 'jwk': KEYS['ES256'].public_jwk()})}.{payload}.{signature}",
        f"{encoded({**header, 'zip': 'DEF'})}.{payload}.{signature}",
        f"{encoded({**header, 'alg': ['ES256']})}.{payload}.{signature}",
        f"{encoded({**header, 'alg': 'es256'})}.{payload}.{signature}",
        f"{encoded({'typ': 'at+jwt'})}.{payload}.{signature}",
        f"{encoded('[]')}.{payload}.{signature}",
        *(f"{encoded(twice)}.{payload}.{signature}" for twice in TWICE),
        f"{encoded({**header, 'kid': 'x' * 2000})}.{payload}.{signature}",
        token + "A" * 9000,
    ):
        assert not accepts(KEYS["ES256"].public_jwk(), other), other[:80]


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9_-]{1,40}){2}", fullmatch=True))
def test_no_text_is_read_as_anything_but_malformed_or_refused(text: str) -> None:
    assert not accepts(KEYS["ES256"].public_jwk(), text)
