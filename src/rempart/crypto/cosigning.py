"""Cosignatures on checkpoints (c2sp.org/tlog-cosignature, `cosignature/v1`): a witness says what it saw, and when.

What is signed is two lines of header, then the checkpoint's text; the signature in the note is the time (64 bits,
seconds since the epoch, big-endian) and 64 bytes of Ed25519. A witness's verifier key is
`NAME+HEX(key id)+BASE64(0x04 | public key)`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rempart.kernel.errors import BadInput, Integrity

from .signing import verify_ed25519

_COSIGNATURE = b"\x04"
_DASH = "\N{EM DASH} "


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _COSIGNATURE + public_key).digest()[:4]


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


class Cosigner:
    """Cosigns as `name`. `seed` is the 32-byte private key: kept by the caller."""

    def __init__(self, name: str, seed: bytes) -> None:
        if not name or "+" in name or any(c.isspace() for c in name):
            raise BadInput(
                "bad_note_name", f"{name!r} can't name a witness", "use a name without spaces and plus signs"
            )
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes_raw()

    @property
    def verifier_key(self) -> str:
        key_id = _key_id(self.name, self._public).hex()
        return f"{self.name}+{key_id}+{base64.b64encode(_COSIGNATURE + self._public).decode()}"

    def cosign(self, text: str, at: int) -> str:
        """The signature line of a checkpoint's `text`, ending in a newline."""
        raw = _key_id(self.name, self._public) + at.to_bytes(8, "big") + self._key.sign(_message(text, at))
        return f"{_DASH}{self.name} {base64.b64encode(raw).decode()}\n"


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    name: str
    public_key: bytes

    @staticmethod
    def parse(verifier_key: str) -> CosignatureVerifier:
        """Raises BadInput `bad_verifier_key`."""
        try:
            name, key_id, encoded = verifier_key.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise BadInput("bad_verifier_key", "not a witness's key", "use NAME+HASH+KEY as the witness says") from None
        if len(raw) != 33 or raw[:1] != _COSIGNATURE or _key_id(name, raw[1:]).hex() != key_id:
            raise BadInput("bad_verifier_key", "this is no key for cosignatures, or its hash is wrong")
        return CosignatureVerifier(name, raw[1:])

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
        if len(raw) != 76 or raw[:4] != _key_id(self.name, self.public_key):
            return None
        at = int.from_bytes(raw[4:12], "big")
        return at if verify_ed25519(self.public_key, raw[12:], _message(text, at)) else None
