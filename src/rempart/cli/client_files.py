"""What a client proves itself by, read from files and stdin: never from arguments."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

_MAX_FILE = 64 * 1024


def words_of(values: list[str] | None) -> list[str] | None:
    """`--scope "a b"` and `--scope a --scope b` are the same."""
    return None if values is None else [word for value in values for word in value.split()]


def secret_from_stdin() -> str:
    try:
        if secret := sys.stdin.readline(4096).rstrip("\r\n"):
            return secret
    except UnicodeDecodeError:
        pass
    raise BadInput("bad_secret", "no secret came on stdin", "write it in UTF-8, one line")


def keys_of(file: Path) -> list[Any]:
    document = strict_json.loads(read_at_most(file, _MAX_FILE))
    if isinstance(document, dict) and isinstance(document.get("keys"), list):
        return list(document["keys"])
    return [document]


def thumbprint_of(file: Path) -> str:
    """RFC 8705 section 3.1: SHA-256 of the DER, in base64url."""
    fingerprint = bytes.fromhex(Certificate.parse(pem_to_ders(read_at_most(file, _MAX_FILE))[0]).fingerprint)
    return base64.urlsafe_b64encode(fingerprint).rstrip(b"=").decode()


def read_at_most(file: Path, most: int) -> bytes:
    """Raises BadInput `unreadable_file`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise BadInput("unreadable_file", f"{file} can't be read: {error.strerror}") from None
    if len(content) > most:
        raise BadInput("unreadable_file", f"{file} is larger than {most} bytes")
    return content
