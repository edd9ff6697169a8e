"""Verifier keys of signed notes (c2sp.org/signed-note), all Ed25519 (RFC 8032).

One is `NAME+HEX(key id)+BASE64(KIND | public key)`. KIND is one byte: what the key signs. The key id is the first four
bytes of SHA-256(NAME | 0x0A | KIND | public key).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rempart.kernel.errors import BadInput


class NoteKind(Enum):
    NOTE = b"\x01"
    COSIGNATURE = b"\x04"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """`public_key` 32 bytes."""

    name: str
    kind: NoteKind
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + self.kind.value + self.public_key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self.kind.value + self.public_key).decode()}"

    @staticmethod
    def parse(text: str, kind: NoteKind) -> VerifierKey:
        """Raises BadInput `bad_verifier_key`."""
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
            check_name(name)
        except (ValueError, binascii.Error, BadInput):
            raise BadInput("bad_verifier_key", "not a verifier key", "use NAME+HASH+KEY as its owner says") from None
        key = VerifierKey(name, kind, raw[1:])
        if len(raw) != 33 or raw[:1] != kind.value or key.key_id.hex() != key_id:
            what = f"an Ed25519 key for a {kind.name.lower()}"
            raise BadInput("bad_verifier_key", f"the verifier key is not {what}, or its hash is wrong")
        return key


def check_name(name: str) -> None:
    """Raises BadInput `bad_note_name`."""
    if not name or "+" in name or any(c.isspace() for c in name):
        raise BadInput("bad_note_name", f"{name!r} can't name a signer", "use a name without spaces and plus signs")


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """`public_key` 32 bytes, `signature` 64 bytes; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
