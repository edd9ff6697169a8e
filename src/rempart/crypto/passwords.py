"""Password hashes: argon2id (RFC 9106) with OWASP's parameters of 19 MiB, two passes, one lane; about 20 ms each.

Passwords are compared after Unicode normalisation NFC (NIST SP 800-63B-4 section 3.1.1.2).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from rempart.kernel.errors import BadInput

MAX_PASSWORD = 128  # characters; bounds what one attempt costs
_ENCODED = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_MOST_MEMORY = 256 * 1024  # KiB that a stored hash may ask of us
_MOST_PASSES = 10


@dataclass(frozen=True)
class Argon2id:
    """`memory` in KiB. Blocking, thread-safe, and without the GIL while it computes: run it in a bounded pool."""

    memory: int = 19456
    passes: int = 2
    lanes: int = 1

    def _hasher(self) -> PasswordHasher:
        return PasswordHasher(self.passes, self.memory, self.lanes, hash_len=32, salt_len=16, type=Type.ID)

    def hash(self, password: str) -> str:
        """The PHC string, with a random salt."""
        return self._hasher().hash(normalise(password))

    def verify(self, password: str, encoded: str) -> bool:
        """False for a wrong password and for a hash that can't be read; never raises on what was given."""
        if len(password) > MAX_PASSWORD:
            return False
        try:
            return self._hasher().verify(encoded, normalise(password))
        except (Argon2Error, InvalidHashError, UnicodeError):
            return False

    def outdated(self, encoded: str) -> bool:
        """Whether `encoded` was made with less than today's parameters (or can't be read): hash again at login."""
        found = _ENCODED.fullmatch(encoded)
        if not found:
            return True
        memory, passes, lanes = map(int, found.groups())
        return memory < self.memory or passes < self.passes or lanes != self.lanes


def check_encoded(encoded: str) -> str:
    """A hash from elsewhere, fit to be stored; raises BadInput `bad_password_hash` for another kind or a costly one."""
    found = _ENCODED.fullmatch(encoded)
    if not found or int(found[1]) > _MOST_MEMORY or int(found[2]) > _MOST_PASSES or int(found[3]) > 4:
        raise BadInput("bad_password_hash", "this is not an argon2id hash in PHC form within our limits")
    return encoded


def normalise(password: str) -> str:
    return unicodedata.normalize("NFC", password)
