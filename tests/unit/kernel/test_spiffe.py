"""SPIFFE-ID standard, sections 2.1 to 2.3."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://bank.example",
        "spiffe://bank.example/wallet",
        "spiffe://bank.example/ns/default/sa/web-1",
        "spiffe://a_b.c-d/.hidden/...",
    ],
)
def test_valid_ids_round_trip(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:/bank.example/wallet",
        "http://bank.example/wallet",
        "SPIFFE://bank.example/wallet",
        "spiffe://Bank.example/wallet",
        "spiffe://bank.example/",
        "spiffe://bank.example//wallet",
        "spiffe://bank.example/wallet/",
        "spiffe://bank.example/./wallet",
        "spiffe://bank.example/../wallet",
        "spiffe://bank.example/wal%6cet",
        "spiffe://bank.example/wallet?x=1",
        "spiffe://bank.example/wallet#x",
        "spiffe://bank.example:443/wallet",
        "spiffe://user@bank.example/wallet",
        "spiffe://bank.example/wallet,spiffe://evil.example/x",
        "spiffe://bank.example/wället",
        "spiffe://bank.example/wallet\n",
        "spiffe://bank.example/" + "a" * 2048,
        "spiffe://" + "a" * 256,
    ],
)
def test_malformed_ids_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        SpiffeId.parse(text)
    assert refusal.value.code == "bad_spiffe_id"
    assert refusal.value.remedy


@given(st.text())
def test_any_text_parses_to_itself_or_is_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert str(SpiffeId.parse("spiffe://" + text)) == "spiffe://" + text
