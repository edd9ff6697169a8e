"""Signed notes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.audit import verifier
from rempart.crypto.signing import NoteSigner, NoteVerifier, verify_ed25519
from rempart.kernel.errors import BadInput, Integrity

SIGNER = NoteSigner("log.example/one", bytes(range(32)))
TEXT = "log.example/one\n7\nAAAA\n"

# Source: golang.org/x/mod/sumdb/note, package example: PeterNeumann's key and note.
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_published_note_verifies() -> None:
    assert NoteVerifier.parse(PETER_KEY).verify(PETER_NOTE).startswith("If you think")


def test_published_ed25519_vector() -> None:
    """RFC 8032 section 7.1, TEST 2."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify_ed25519(public, signature, b"\x72")
    assert not verify_ed25519(public, signature, b"\x73")
    assert not verify_ed25519(public[:31], signature, b"\x72")
    assert verifier.openssl_verify_ed25519(public, signature, b"\x72")
    assert not verifier.openssl_verify_ed25519(public, signature, b"\x73")


@settings(max_examples=100)
@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    note = bytearray(SIGNER.sign(TEXT).encode())
    at = data.draw(st.integers(0, len(note) - 1))
    note[at] ^= data.draw(st.integers(1, 255))
    changed = note.decode("utf-8", "replace")
    check = NoteVerifier.parse(SIGNER.verifier_key)
    try:
        assert check.verify(changed) == TEXT  # only bits that base64 ignores may have been changed
    except Integrity:
        return
    key = verifier.Key.parse(SIGNER.verifier_key)
    with pytest.raises(verifier.VerificationError):
        verifier.open_checkpoint(changed, key, verify_ed25519)


def test_signatures_of_others_are_ignored_and_not_enough() -> None:
    other = NoteSigner("log.example/two", bytes(32))
    both = SIGNER.sign(TEXT) + other.sign(TEXT).rpartition("\n\n")[2]
    assert NoteVerifier.parse(SIGNER.verifier_key).verify(both) == TEXT
    assert NoteVerifier.parse(other.verifier_key).verify(both) == TEXT
    same_name = NoteSigner(SIGNER.name, bytes(32))
    with pytest.raises(Integrity):
        NoteVerifier.parse(same_name.verifier_key).verify(SIGNER.sign(TEXT))


@pytest.mark.parametrize("text", ["no newline", "bell\a\n", ""])
def test_what_is_no_text_of_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(BadInput):
        SIGNER.sign(text)


@pytest.mark.parametrize("key", ["", "a+b", "a+00000000+AAAA", PETER_KEY.replace("c74f", "c74e"), "a b+1+AA=="])
def test_bad_verifier_keys_are_refused(key: str) -> None:
    with pytest.raises(BadInput):
        NoteVerifier.parse(key)
    with pytest.raises(verifier.VerificationError):
        verifier.Key.parse(key)
