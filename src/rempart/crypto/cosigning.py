"""Cosignatures on checkpoints (c2sp.org/tlog-cosignature, `cosignature/v1`): a witness says what it saw, and when.

What is signed is two lines of header, then the checkpoint's text; the signature in the note is the time (64 bits,
seconds since the epoch, big-endian) and 64 bytes of Ed25519.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rempart.kernel.errors import Integrity

from .verifier_keys import NoteKind, VerifierKey, check_name, verify_ed25519

_DASH = "\N{EM DASH} "


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


class Cosigner:
    """Cosigns as `name`. `seed` is the 32-byte private key: kept by the caller."""

    def __init__(self, name: str, seed: bytes) -> None:
        check_name(name)
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._verifier = VerifierKey(name, NoteKind.COSIGNATURE, self._key.public_key().public_bytes_raw())

    @property
    def verifier_key(self) -> str:
        return str(self._verifier)

    def cosign(self, text: str, at: int) -> str:
        """The signature line of a checkpoint's `text`, ending in a newline."""
        raw = self._verifier.key_id + at.to_bytes(8, "big") + self._key.sign(_message(text, at))
        return f"{_DASH}{self.name} {base64.b64encode(raw).decode()}\n"


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    name: str
    public_key: bytes

    @staticmethod
    def parse(verifier_key: str) -> CosignatureVerifier:
        """Raises BadInput `bad_verifier_key`."""
        key = VerifierKey.parse(verifier_key, NoteKind.COSIGNATURE)
        return CosignatureVerifier(key.name, key.public_key)

    def line_of(self, note: str) -> tuple[str, int]:
        """This witness's signature line in a signed note, and when it was made. Raises Integrity `not_cosigned`."""
        text, gap, signatures = note.rpartition("\n\n")
        if gap:
            for line in signatures.split("\n"):
                if line.startswith(f"{_DASH}{self.name} ") and (at := self._time(line, text + "\n")) is not None:
                    return line + "\n", at
        raise Integrity("not_cosigned", f"{self.name} has not cosigned this checkpoint", "ask the witness")

    def _time(self, line: str, text: str) -> int | None:
        try:
            raw = base64.b64decode(line.rpartition(" ")[2], validate=True)
        except (ValueError, binascii.Error):
            return None
        key_id = VerifierKey(self.name, NoteKind.COSIGNATURE, self.public_key).key_id
        if len(raw) != 76 or raw[:4] != key_id:
            return None
        at = int.from_bytes(raw[4:12], "big")
        return at if verify_ed25519(self.public_key, raw[12:], _message(text, at)) else None
