import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.crypto.aead import derive_key, seal, unseal
from rempart.kernel.errors import Integrity

KEY = bytes(range(32))


@given(st.binary(max_size=500), st.binary(max_size=50))
@settings(max_examples=50)
def test_what_is_sealed_opens_again(plaintext: bytes, context: bytes) -> None:
    assert unseal(KEY, seal(KEY, plaintext, context), context) == plaintext


def test_the_same_plaintext_never_seals_alike() -> None:
    assert seal(KEY, b"x", b"") != seal(KEY, b"x", b"")


def test_another_context_does_not_open_it() -> None:
    with pytest.raises(Integrity, match="another purpose"):
        unseal(KEY, seal(KEY, b"secret", b"users/1"), b"users/2")


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(Integrity, match="another key"):
        unseal(bytes(32), seal(KEY, b"secret", b""), b"")


@given(st.integers(min_value=0), st.integers(1, 255))
@settings(max_examples=100)
def test_any_changed_byte_is_found(position: int, flip: int) -> None:
    sealed = bytearray(seal(KEY, b"a secret of some length", b"context"))
    sealed[position % len(sealed)] ^= flip
    with pytest.raises(Integrity):
        unseal(KEY, bytes(sealed), b"context")


@pytest.mark.parametrize("length", [0, 1, 80])
def test_truncation_is_found(length: int) -> None:
    with pytest.raises(Integrity):
        unseal(KEY, seal(KEY, b"", b"")[:length], b"")


def test_derived_keys_differ_by_purpose() -> None:
    assert derive_key(KEY, "people") != derive_key(KEY, "identity")
    assert len(derive_key(KEY, "people")) == 32
