"""Password hashes that other programs made, verified once: after that login the password is hashed our way.

argon2id and argon2i in PHC form (RFC 9106), bcrypt, and PBKDF2 (RFC 8018) with HMAC-SHA-256 or -SHA-512 written
`$pbkdf2-sha256$i=27500$SALT$HASH` in base64 without padding; Keycloak's derive 64 bytes, others 20 and more. What one
verification may cost is bounded, so that an import can't slow logins down.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

import bcrypt
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import Type, verify_secret

_ARGON2 = re.compile(
    r"\$argon2(id|i)\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_PBKDF2 = re.compile(r"\$pbkdf2-(sha256|sha512)\$i=(\d{1,8})\$([A-Za-z0-9+/]{2,172})\$([A-Za-z0-9+/]{27,172})")
_MOST_MEMORY = 256 * 1024  # KiB
_MOST_PASSES = 10
_MOST_LANES = 4
_BCRYPT_COSTS = range(4, 15)
_MOST_ITERATIONS = 2_000_000
_BCRYPT_BYTES = 72  # what bcrypt reads of a password; the programs that made these hashes cut the rest off


def readable(encoded: str) -> bool:
    """Whether `encoded` is of a kind above and within what one verification may cost."""
    if found := _ARGON2.fullmatch(encoded):
        return int(found[2]) <= _MOST_MEMORY and int(found[3]) <= _MOST_PASSES and int(found[4]) <= _MOST_LANES
    if found := _BCRYPT.fullmatch(encoded):
        return int(found[1]) in _BCRYPT_COSTS
    if found := _PBKDF2.fullmatch(encoded):
        return 1 <= int(found[2]) <= _MOST_ITERATIONS and _unpadded(found[3]) is not None and bool(_unpadded(found[4]))
    return False


def verify_imported(password: str, encoded: str) -> bool:
    """False for a wrong password and for what is not readable. Blocking; without the GIL while it computes."""
    if not readable(encoded):
        return False
    secret = password.encode("utf-8", "surrogatepass")
    if encoded.startswith("$argon2"):
        try:
            return verify_secret(encoded.encode(), secret, Type.ID if encoded.startswith("$argon2id") else Type.I)
        except (Argon2Error, InvalidHashError):
            return False
    if encoded.startswith("$2"):
        try:
            return bcrypt.checkpw(secret[:_BCRYPT_BYTES], encoded.encode())
        except ValueError:  # a byte 0, which bcrypt can't hash
            return False
    found = _PBKDF2.fullmatch(encoded)
    salt, expected = (_unpadded(found[3]), _unpadded(found[4])) if found else (None, None)
    if not found or salt is None or not expected:
        return False
    derived = hashlib.pbkdf2_hmac(found[1], secret, salt, int(found[2]), len(expected))
    return hmac.compare_digest(derived, expected)


def _unpadded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
