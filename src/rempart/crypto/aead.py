"""Sealing small things at rest: AES-256-GCM with a key derived per message, and a commitment to that key.

Plain GCM does not commit to its key and its random nonces run out; HKDF-SHA512 (RFC 5869) over a random 32-byte salt
and the context gives each message a key of its own (so the nonce may be constant) and a 32-byte commitment.
Layout: `1 | salt[32] | commitment[32] | ciphertext and tag`.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rempart.kernel.errors import Integrity

_VERSION = b"\x01"
_NONCE = bytes(12)


def derive_key(master: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose; different purposes give independent keys."""
    return HKDF(SHA512(), 32, salt=None, info=b"rempart/key/v1\0" + purpose.encode()).derive(master)


def _message_key(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes]:
    out = HKDF(SHA512(), 64, salt=salt, info=b"rempart/seal/v1\0" + context).derive(key)
    return out[:32], out[32:]


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate; opens only with the same `key` (32 bytes) and `context`."""
    salt = os.urandom(32)
    message_key, commitment = _message_key(key, salt, context)
    return _VERSION + salt + commitment + AESGCM(message_key).encrypt(_NONCE, plaintext, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Raises Integrity `seal_broken` for a wrong key, a wrong context or any changed byte."""
    if len(sealed) < 81 or sealed[:1] != _VERSION:
        raise Integrity("seal_broken", "the sealed data is truncated or of another version")
    salt, commitment, body = sealed[1:33], sealed[33:65], sealed[65:]
    message_key, expected = _message_key(key, salt, context)
    if not hmac.compare_digest(commitment, expected):
        raise Integrity("seal_broken", "the sealed data was made with another key or for another purpose")
    try:
        return AESGCM(message_key).decrypt(_NONCE, body, context)
    except InvalidTag:
        raise Integrity("seal_broken", "the sealed data was changed") from None
