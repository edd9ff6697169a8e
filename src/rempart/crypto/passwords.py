"""Password hashes: argon2id (RFC 9106) with OWASP's parameters of 19 MiB, two passes, one lane; about 20 ms each.

Hashes from elsewhere (`imported_hashes`) are verified and always outdated. Passwords are compared after Unicode
normalisation NFC (NIST SP 800-63B-4 section 3.1.1.2).
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from rempart.kernel.errors import BadInput

from .imported_hashes import readable, verify_imported

MAX_PASSWORD = 128  # characters; bounds what one attempt costs
_ENCODED = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_PEPPERED = re.compile(r"\$pepper=(\d{1,4})(\$argon2id\$.*)")

Pepper = Callable[[int], bytes]
"""The 32-byte key of a version."""


@dataclass(frozen=True)
class Argon2id:
    """`memory` in KiB. Blocking, thread-safe, and without the GIL while it computes: run it in a bounded pool.

    With a `pepper_version` above 0 a password goes through HMAC-SHA-256 under `pepper(version)` first: who has only
    the hashes can't try passwords on them. Such a hash is written `$pepper=VERSION$argon2id$…`; those of every other
    version, and without, are still verified and then outdated.
    """

    memory: int = 19456
    passes: int = 2
    lanes: int = 1
    pepper: Pepper | None = field(default=None, repr=False)
    pepper_version: int = 0

    def _hasher(self) -> PasswordHasher:
        return PasswordHasher(self.passes, self.memory, self.lanes, hash_len=32, salt_len=16, type=Type.ID)

    def hash(self, password: str) -> str:
        """The PHC string, with a random salt."""
        text = normalise(password)
        if not self.pepper_version:
            return self._hasher().hash(text)
        return f"$pepper={self.pepper_version}" + self._hasher().hash(self._season(text, self.pepper_version))

    def verify(self, password: str, encoded: str) -> bool:
        """False for a wrong password and for a hash that can't be read; never raises on what was given."""
        if len(password) > MAX_PASSWORD:
            return False
        try:
            text = normalise(password)
            peppered = _PEPPERED.fullmatch(encoded)
            if peppered:
                return self.pepper is not None and self._hasher().verify(
                    peppered[2], self._season(text, int(peppered[1]))
                )
            if _ENCODED.fullmatch(encoded):
                return self._hasher().verify(encoded, text)
            return verify_imported(password, encoded) or (text != password and verify_imported(text, encoded))
        except (Argon2Error, InvalidHashError, UnicodeError):
            return False

    def without_pepper(self, password: str, encoded: str) -> tuple[str, str] | None:
        """What another process, which has no pepper, is to `verify` for the same answer; None where that is a plain no,
        with nothing to compute."""
        if len(password) > MAX_PASSWORD:
            return None
        try:
            text = normalise(password)
            text.encode()
            peppered = _PEPPERED.fullmatch(encoded)
            return (self._season(text, int(peppered[1])), peppered[2]) if peppered else (password, encoded)
        except (InvalidHashError, UnicodeError):
            return None

    def outdated(self, encoded: str) -> bool:
        """Whether `encoded` was made with less than today's parameters or in another way: hash again at login."""
        peppered = _PEPPERED.fullmatch(encoded)
        found = _ENCODED.fullmatch(peppered[2] if peppered else encoded)
        if not found or (int(peppered[1]) if peppered else 0) != self.pepper_version:
            return True
        memory, passes, lanes = map(int, found.groups())
        return memory < self.memory or passes < self.passes or lanes != self.lanes

    def _season(self, text: str, version: int) -> str:
        if self.pepper is None:
            raise InvalidHashError("there is no pepper")
        return base64.b64encode(hmac.digest(self.pepper(version), text.encode(), "sha256")).decode()


def check_encoded(encoded: str) -> str:
    """A hash from elsewhere, fit to be stored; raises BadInput `bad_password_hash` for another kind or a costly one."""
    if not readable(encoded):
        raise BadInput(
            "bad_password_hash",
            "this is not a password hash that can be verified within our limits",
            "give argon2id or argon2i (PHC), bcrypt, or $pbkdf2-sha256$i=…$SALT$HASH or -sha512",
        )
    return encoded


def normalise(password: str) -> str:
    return unicodedata.normalize("NFC", password)
