"""Checking one proof, and telling what it proves."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from rempart.kernel.errors import BadInput, Integrity

from .output import print_json, print_table, say, shown_time


def read_file(path: Path, what: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise BadInput("unreadable", f"{what} {path} can't be read: {error.strerror}", "name another file") from None


def flat(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def cosigners(paths: list[Path], quorum: int | None) -> tuple[list[Any], int]:
    from rempart.crypto.cosigning import CosignatureVerifier

    keys = [
        CosignatureVerifier.parse(read_file(path, "the witness's key").decode("utf-8", "replace")) for path in paths
    ]
    wanted = len(keys) if quorum is None else quorum
    if not 0 <= wanted <= len(keys):
        raise BadInput("bad_quorum", f"{wanted} of {len(keys)} witnesses can't be", "name more keys, or fewer of them")
    return keys, wanted


def _count_cosignatures(proof: Any, keys: list[Any], wanted: int) -> None:
    """Raises VerificationError."""
    from rempart.audit.verifier import VerificationError

    have = 0
    for key in keys:
        with contextlib.suppress(Integrity):
            key.line_of(proof["checkpoint"])
            have += 1
    if have < wanted:
        raise VerificationError(f"{have} of the {wanted} witnesses asked for have cosigned the checkpoint")


def verify_one(path: Path, key: Any, cosigners: tuple[list[Any], int], *, as_json: bool) -> None:
    from rempart.audit.verifier import VerificationError, verify_proof
    from rempart.crypto.signing import verify_ed25519

    try:
        proof = json.loads(read_file(path, "the proof"))
    except (ValueError, RecursionError):
        raise BadInput("bad_proof", f"{path} is not JSON", "use the output of `rempart audit prove ID`") from None
    try:
        event = verify_proof(proof, key, verify_ed25519)
        _count_cosignatures(proof, *cosigners)
    except VerificationError as error:
        if as_json:
            print_json({"ok": False, "problem": str(error)})
        say(f"wrong: {error}")
        raise SystemExit(1) from None
    if as_json:
        print_json({"ok": True, "id": proof["id"], "index": proof["index"], "event": event})
        return
    own = event.get("unmapped", {}).get("rempart", {})
    say(f"right: event {proof['index']} of the log {key.origin} is")
    when = [("time", shown_time(own["at"] / 1000))] if isinstance(own.get("at"), int) else []
    print_table(("field", "value"), when + [(name, flat(value)) for name, value in own.items() if name != "at"])
