"""Signed notes (c2sp.org/signed-note) with Ed25519 (RFC 8032): how the log vouches for its checkpoints.

```
text            one or more lines, each ending in a newline
                an empty line
— NAME BASE64   one line for each signature: 4 bytes of key id, then the signature over the text
```
A verifier key is `NAME+HEX(key id)+BASE64(0x01 | public key)`; the key id is the first four bytes of
SHA-256(NAME | 0x0A | 0x01 | public key).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from rempart.kernel.errors import BadInput, Integrity

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """`public_key` 32 bytes, `signature` 64 bytes; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() for c in name):
        raise BadInput("bad_note_name", f"{name!r} can't name a signer", "use a name without spaces and plus signs")


class NoteSigner:
    """Signs as `name`. `seed` is the 32-byte private key: kept by the caller, sealed."""

    def __init__(self, name: str, seed: bytes) -> None:
        _check_name(name)
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self._key_id = _key_id(name, self.public_key)

    @staticmethod
    def new_seed() -> bytes:
        return Ed25519PrivateKey.generate().private_bytes_raw()

    @property
    def verifier_key(self) -> str:
        return f"{self.name}+{self._key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    def sign(self, text: str) -> str:
        """The note: `text`, an empty line and the signature line. `text` must end in a newline."""
        if not text.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in text):
            raise BadInput("bad_note", "a note is lines of text without control characters")
        signature = base64.b64encode(self._key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{_DASH}{self.name} {signature}\n"


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    name: str
    public_key: bytes

    @staticmethod
    def parse(verifier_key: str) -> NoteVerifier:
        """Raises BadInput `bad_verifier_key`."""
        try:
            name, key_id, encoded = verifier_key.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
            _check_name(name)
        except (ValueError, binascii.Error, BadInput):
            raise BadInput("bad_verifier_key", "not a verifier key", "use NAME+HASH+KEY as in log.vkey") from None
        if len(raw) != 33 or raw[:1] != _ED25519 or _key_id(name, raw[1:]).hex() != key_id:
            raise BadInput("bad_verifier_key", "the verifier key is not an Ed25519 key, or its hash is wrong")
        return NoteVerifier(name, raw[1:])

    def verify(self, note: str) -> str:
        """The text that this key signed; signatures by other keys are ignored. Raises Integrity `bad_signature`."""
        text, gap, signatures = note.rpartition("\n\n")
        text += "\n"
        if gap and signatures.endswith("\n"):
            key_id = _key_id(self.name, self.public_key)
            for line in signatures[:-1].split("\n"):
                if not line.startswith(f"{_DASH}{self.name} "):
                    continue
                try:
                    raw = base64.b64decode(line.rpartition(" ")[2], validate=True)
                except (ValueError, binascii.Error):
                    continue
                if raw[:4] == key_id and verify_ed25519(self.public_key, raw[4:], text.encode()):
                    return text
        raise Integrity("bad_signature", f"the note is not signed by {self.name}", "compare the key with log.vkey")
