"""The master key: created at the first start, read at every other one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rempart.kernel.errors import BadInput, Integrity

from .state_files import write_file

KEY_FILE_VARIABLE = "REMPART_MASTER_KEY_FILE"


def master_key(state: Path, profile: str) -> bytes:
    """From the file that REMPART_MASTER_KEY_FILE names (64 hexadecimal digits or 32 bytes), else `secrets/master.key`.

    Raises BadInput `bad_master_key` when the file isn't the owner's alone, and in production when there is none.
    """
    named = os.environ.get(KEY_FILE_VARIABLE)
    if named:
        return _read_key(Path(named))
    if profile == "production":
        raise BadInput(
            "master_key_missing",
            "the production profile does not keep its master key in the state directory",
            f"set {KEY_FILE_VARIABLE} to a file of mode 0400 with 64 hexadecimal digits (`openssl rand -hex 32`)",
        )
    own = state / "secrets" / "master.key"
    if not own.exists():
        if any((state / "secrets").glob("*-root*.sealed")):
            raise Integrity(
                "master_key_lost",
                f"{own} is missing, and what is sealed in {state} can't be opened without it",
                f"restore it, or set {KEY_FILE_VARIABLE}",
            )
        write_file(own, os.urandom(32).hex().encode() + b"\n")
    return _read_key(own)


def _read_key(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput("bad_master_key", f"the master key {path} can't be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise BadInput(
                "bad_master_key", f"{path} can be read by others than user {os.geteuid()}", f"chmod 0400 {path}"
            )
        content = file.read(200)
    try:
        key = content if len(content) == 32 else bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise BadInput("bad_master_key", f"{path} does not hold 32 bytes", "write 64 hexadecimal digits into it")
    return key
