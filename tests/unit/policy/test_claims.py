"""Claims are read strictly and their times checked every time."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.policy.claims import BadClaims, ClaimsReader, why_refused

NOW = 1_700_000_000.0
CLAIMS: dict[str, Any] = {"iss": "i", "aud": "a", "sub": "u1", "role": "user", "iat": NOW, "exp": NOW + 60}


def _encode(document: Any) -> bytes:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _reader() -> ClaimsReader:
    return ClaimsReader("i", "a")


def test_good_claims() -> None:
    claims = _reader().read(_encode({**CLAIMS, "email": "a@b.c"}), NOW)
    assert (claims.subject, claims.role) == ("u1", "user")
    assert json.loads(claims.as_json)["email"] == "a@b.c"
    assert json.loads(claims.masked)["email"] == "***"


def test_a_list_of_one_audience_is_that_audience() -> None:
    assert _reader().read(_encode({**CLAIMS, "aud": ["a"]}), NOW).subject == "u1"


@pytest.mark.parametrize(
    "document",
    [
        {**CLAIMS, "iss": "other"},
        {**CLAIMS, "aud": "other"},
        {**CLAIMS, "aud": ["a", "other"]},
        {**CLAIMS, "sub": ""},
        {**CLAIMS, "sub": 5},
        {**CLAIMS, "sub": "a\r\nx-rempart-role: admin"},
        {**CLAIMS, "role": "admin\r\n"},
        {**CLAIMS, "role": ["admin"]},
        {**CLAIMS, "exp": NOW - 10},
        {**CLAIMS, "exp": "9999999999"},
        {**CLAIMS, "exp": True},
        {**CLAIMS, "nbf": NOW + 60},
        {**CLAIMS, "iat": NOW + 60},
        {name: value for name, value in CLAIMS.items() if name != "exp"},
        {name: value for name, value in CLAIMS.items() if name != "sub"},
        [],
        "x",
        b'{"sub":"u1","sub":"u2"}',
        b'{"exp":NaN}',
        b"\xff",
    ],
)
def test_bad_claims(document: Any) -> None:
    with pytest.raises(BadClaims):
        _reader().read(_encode(document), NOW)


def test_a_remembered_token_still_expires() -> None:
    reader = _reader()
    header = _encode(CLAIMS)
    reader.read(header, NOW)
    with pytest.raises(BadClaims, match="expired"):
        reader.read(header, NOW + 120)


@pytest.mark.parametrize("header", [b"", b"!!!!", b"a" * 20_000, b"e30=e30", b"\xff\xfe"])
def test_what_is_not_base64url(header: bytes) -> None:
    with pytest.raises(BadClaims):
        _reader().read(header, NOW)


@settings(max_examples=200)
@given(st.binary(max_size=64))
def test_any_header_gives_claims_or_a_refusal(header: bytes) -> None:
    for candidate in (header, _encode(header)):
        with pytest.raises(BadClaims):
            _reader().read(candidate, NOW)


def _token(header: Any, claims: Any, signature: str = "c2ln") -> str:
    return f"{_encode(header).decode()}.{_encode(claims).decode()}.{signature}"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("abc", "malformed"),
        (_token({"alg": "none"}, CLAIMS, ""), "algorithm: none"),
        (_token({"alg": "HS256"}, CLAIMS), "algorithm: none of ours"),
        (_token({"alg": "RS256", "jku": "https://evil"}, CLAIMS), "header: jku"),
        (_token({"alg": "RS256"}, CLAIMS, ""), "signature: missing"),
        (_token({"alg": "RS256"}, {**CLAIMS, "exp": 1}), "expired"),
        (_token({"alg": "RS256"}, {"iss": "i"}), "expiry: missing"),
        (_token({"alg": "RS256"}, {**CLAIMS, "aud": "b"}), "audience"),
        (_token({"alg": "RS256"}, {**CLAIMS, "iss": "b"}), "issuer"),
        (_token({"alg": "RS256"}, CLAIMS), "signature: by no key of ours"),
    ],
)
def test_why_a_token_was_refused(token: str, why: str) -> None:
    assert why_refused(token, NOW, "i", "a").startswith(why)


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_explaining_never_raises_and_never_repeats(token: str) -> None:
    said = why_refused(token, NOW, "i", "a")
    assert said
    if len(token) > 8:
        assert token not in said


def test_a_token_is_read_only_as_it_was_issued() -> None:
    """RFC 4648 section 3.5: of an ES256 signature's last character (64 octets) four bits are nobody's."""
    token = b"Bearer aGVhZGVy.Y2xhaW1z." + base64.urlsafe_b64encode(bytes(64)).rstrip(b"=")
    header = _encode(CLAIMS)
    assert _reader().read(header, NOW, token).subject == "u1"
    whole = b"Bearer aGVhZGVy.Y2xhaW1z." + base64.urlsafe_b64encode(bytes(384))  # RS256 of 3072 bits: none left over
    assert _reader().read(header, NOW, whole).subject == "u1"
    for odd in (
        token + b".",
        token.replace(b".", b"..", 1),
        token[:-1] + b"B",
        token[:24] + b".",
        b"a.b.c",
    ):
        with pytest.raises(BadClaims):
            _reader().read(header, NOW, odd)
