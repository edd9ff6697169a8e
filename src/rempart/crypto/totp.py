"""Time-based one-time passwords (RFC 6238 over RFC 4226): SHA-1, six digits, steps of 30 s, as apps expect."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from urllib.parse import quote

from rempart.kernel.errors import BadInput

STEP = 30  # seconds
DIGITS = 6
_LEAST_SECRET = 10  # bytes; RFC 4226 wants 16, authenticator apps hand out 10 as well


def parse_secret(base32: str) -> bytes:
    """The bytes of a base 32 secret, spaces and padding allowed; raises BadInput `bad_totp_secret`."""
    text = "".join(base32.split()).upper().rstrip("=")
    try:
        secret = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        secret = b""
    if not _LEAST_SECRET <= len(secret) <= 64:
        raise BadInput("bad_totp_secret", "this is not a TOTP secret", "give 16 to 102 characters of base 32")
    return secret


def code(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """RFC 4226 section 5.3."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def matching_step(secret: bytes, given: str, now: float) -> int | None:
    """The step whose code was given: this one, or the one before, for what took its time. A clock that is ahead gets no
    allowance (RFC 6238 section 5.2). Both are always computed; the caller must accept a step once, and none before it.
    """
    current = int(now) // STEP
    found = None
    for step in (current - 1, current):
        if hmac.compare_digest(code(secret, step).encode(), given.encode("utf-8", "replace")):
            found = step
    return found


def new_secret() -> bytes:
    """160 random bits, as RFC 4226 section 4 recommends."""
    return secrets.token_bytes(20)


def base32(secret: bytes) -> str:
    return base64.b32encode(secret).rstrip(b"=").decode()


def uri(secret: bytes, *, issuer: str, account: str) -> str:
    """What authenticator apps read (the Key URI format that all of them took from Google Authenticator)."""
    label = quote(f"{issuer}:{account}", safe=":@")
    return f"otpauth://totp/{label}?secret={base32(secret)}&issuer={quote(issuer)}&algorithm=SHA1&digits=6&period=30"
