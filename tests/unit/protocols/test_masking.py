"""Secrets are masked by the name of their field and by their form; what is none stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.protocols.masking import MASK, is_secret, mask, mask_target, mask_text


@pytest.mark.parametrize(
    "name",
    ["password", "new_password", "Passphrase", "client_secret", "refresh_token", "access_token", "api-key", "apikey",
     "private_key", "Authorization", "set-cookie", "otp", "pin", "cvv", "card_number", "client_assertion",
     "code_verifier", "id_token_hint", "DPoP-token"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert mask({"a": [{name: "hunter2"}]}) == {"a": [{name: MASK}]}


@pytest.mark.parametrize("name", ["amount", "status_code", "country_code", "token", "pinned", "code", "company"])
def test_names_that_are_none(name: str) -> None:
    assert mask({name: "value 12"}) == {name: "value 12"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sent Bearer abcdef123456", f"sent Bearer {MASK}"),
        ("jwt eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl!", f"jwt {MASK}!"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----", MASK),
        ("key AKIAIOSFODNN7EXAMPLE", f"key {MASK}"),
        ("card 4111 1111 1111 1111.", f"card {MASK}1111."),
        ("4111111111111112 is no card", "4111111111111112 is no card"),
        ("1767323045123 is a time, 20260102 a day", "1767323045123 is a time, 20260102 a day"),
        ("usr_01m7yvk5b4c5cc7mzq974dpb2g", "usr_01m7yvk5b4c5cc7mzq974dpb2g"),
    ],
)
def test_forms_of_secrets(text: str, shown: str) -> None:
    assert mask_text(text) == shown


def test_parameters_of_a_path() -> None:
    assert mask_target("/cb?code=abc&state=1") == f"/cb?code={MASK}&state=1"
    assert mask_target("/x?q=1%20&a=b") == "/x?q=1%20&a=b"
    assert mask_target("/plain") == "/plain"


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
)


@settings(max_examples=80)
@given(value=ANYTHING, secret=st.text(min_size=1), name=st.sampled_from(["password", "x-api-key", "otp"]))
def test_it_never_fails_and_never_shows_what_is_named_a_secret(value: Any, secret: str, name: str) -> None:
    shown = mask({"deep": {name: "§" + secret}, "value": value})
    assert shown["deep"][name] == MASK
    json.dumps(shown)


@pytest.mark.parametrize("depth", [1, 14, 15, 16, 17, 100])
def test_a_secret_that_lies_deep_is_not_shown(depth: int) -> None:
    value: Any = {"password": "hunter2 hunter2"}
    for n in range(depth):
        value = [value] if n % 2 else {"a": value}
    assert "hunter2" not in json.dumps(mask(value))
