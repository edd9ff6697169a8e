"""Signed notes (c2sp.org/signed-note) with Ed25519 (RFC 8032): how the log vouches for its checkpoints.

```
text            one or more lines, each ending in a newline
                an empty line
— NAME BASE64   one line for each signature: 4 bytes of key id, then the signature over the text
```
Verifier keys and key ids are in `crypto.verifier_keys`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rempart.kernel.errors import BadInput, Integrity

from .verifier_keys import NoteKind, VerifierKey, check_name, verify_ed25519

__all__ = ["NoteSigner", "NoteVerifier", "verify_ed25519"]
_DASH = "\N{EM DASH} "


class NoteSigner:
    """Signs as `name`. `seed` is the 32-byte private key: kept by the caller, sealed."""

    def __init__(self, name: str, seed: bytes) -> None:
        check_name(name)
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self._verifier = VerifierKey(name, NoteKind.NOTE, self.public_key)

    @staticmethod
    def new_seed() -> bytes:
        return Ed25519PrivateKey.generate().private_bytes_raw()

    @property
    def verifier_key(self) -> str:
        return str(self._verifier)

    def sign(self, text: str) -> str:
        """The note: `text`, an empty line and the signature line. `text` must end in a newline."""
        if not text.endswith("\n") or any(ord(c) < 32 and c != "\n" for c in text):
            raise BadInput("bad_note", "a note is lines of text without control characters")
        signature = base64.b64encode(self._verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{_DASH}{self.name} {signature}\n"

    def verify(self, note: str) -> str:
        """As `NoteVerifier.verify` with its own key."""
        return NoteVerifier(self.name, self.public_key).verify(note)


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    name: str
    public_key: bytes

    @staticmethod
    def parse(verifier_key: str) -> NoteVerifier:
        """Raises BadInput `bad_verifier_key`."""
        key = VerifierKey.parse(verifier_key, NoteKind.NOTE)
        return NoteVerifier(key.name, key.public_key)

    def verify(self, note: str) -> str:
        """The text that this key signed; signatures by other keys are ignored. Raises Integrity `bad_signature`."""
        text, gap, signatures = note.rpartition("\n\n")
        text += "\n"
        if gap and signatures.endswith("\n"):
            key_id = VerifierKey(self.name, NoteKind.NOTE, self.public_key).key_id
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
