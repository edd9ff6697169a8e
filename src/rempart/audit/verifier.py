"""Check a proof without any trust in who made it.

This file stands alone: it imports Python's standard library and nothing else, so it can be read, copied and run
elsewhere (`python verifier.py PROOF.json KEY_FILE`). It shares no code with what writes the log. Checking an Ed25519
signature is left to the caller (`verify_ed25519`); run as a script it asks OpenSSL 3.

A proof is checked in these steps:
1. the checkpoint is a note signed by the given key (c2sp.org/signed-note) for the key's own log (tlog-checkpoint);
2. the leaf is SHA-256(0x00 | payload) (RFC 6962 section 2.1);
3. the inclusion proof leads from the leaf at the index to the checkpoint's root (RFC 9162 section 2.1.3.2);
4. what the proof shows as the event is the payload, read as JSON, and the id is the event's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = "rempart-proof/v1"
VerifyEd25519 = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) → whether it is valid"""


class VerificationError(Exception):
    """What is wrong, and where."""


@dataclass(frozen=True)
class Key:
    """`origin` is the log's name: the only one whose checkpoints this key vouches for."""

    origin: str
    key_id: bytes
    public_key: bytes

    @staticmethod
    def parse(text: str) -> Key:
        """`NAME+HEX+BASE64`, as in `log.vkey`. Raises VerificationError."""
        try:
            origin, key_id, encoded = text.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise VerificationError("the key is not a verifier key: NAME+HASH+KEY is expected") from None
        digest = hashlib.sha256(origin.encode() + b"\n" + raw).digest()[:4]
        if len(raw) != 33 or raw[0] != 1 or digest.hex() != key_id or not origin:
            raise VerificationError("the key is not an Ed25519 verifier key, or its hash is wrong")
        return Key(origin, digest, raw[1:])


@dataclass(frozen=True)
class Head:
    """What a checkpoint says."""

    size: int
    root: bytes


# -- checkpoints -----------------------------------------------------------------------------------------------------


def open_checkpoint(note: str, key: Key, verify_ed25519: VerifyEd25519) -> Head:
    """Raises VerificationError unless `key` signed this checkpoint of its own log."""
    text, gap, signatures = note.rpartition("\n\n")
    text += "\n"
    if not gap or not signatures.endswith("\n"):
        raise VerificationError("the checkpoint is not a signed note")
    if not any(_signed(line, text, key, verify_ed25519) for line in signatures[:-1].split("\n")):
        raise VerificationError(f"the checkpoint is not signed by {key.origin}'s key")
    lines = text.split("\n")
    try:
        origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
        if len(root) != 32 or not size.isascii() or not size.isdigit() or str(int(size)) != size:
            raise ValueError(size)
    except (IndexError, ValueError, binascii.Error):
        raise VerificationError("the signed note is not a checkpoint") from None
    if origin != key.origin:
        raise VerificationError(f"the checkpoint is of the log {origin!r}, the key is {key.origin!r}'s")
    return Head(int(size), root)


def _signed(line: str, text: str, key: Key, verify_ed25519: VerifyEd25519) -> bool:
    prefix = f"\N{EM DASH} {key.origin} "
    if not line.startswith(prefix):
        return False
    try:
        raw = base64.b64decode(line[len(prefix) :], validate=True)
    except (ValueError, binascii.Error):
        return False
    return len(raw) == 68 and raw[:4] == key.key_id and verify_ed25519(key.public_key, raw[4:], text.encode())


# -- hashing ---------------------------------------------------------------------------------------------------------


def leaf_hash(payload: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + payload).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.3.2. Raises VerificationError when the path has the wrong length."""
    if not 0 <= index < size:
        raise VerificationError(f"index {index} is not in a log of {size} events")
    fn, sn, root = index, size - 1, leaf
    for part in path:
        if sn == 0:
            raise VerificationError("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            root = node_hash(part, root)
            if not fn & 1:
                while fn and not fn & 1:
                    fn >>= 1
                    sn >>= 1
        else:
            root = node_hash(root, part)
        fn >>= 1
        sn >>= 1
    if sn:
        raise VerificationError("the inclusion proof is too short")
    return root


def verify_consistency(old: Head, new: Head, path: Sequence[bytes]) -> None:
    """RFC 9162 section 2.1.4.2: the log of `new` begins with the log of `old`. Raises VerificationError."""
    wrong = VerificationError("the consistency proof is wrong: the log did not only grow")
    if old.size > new.size:
        raise wrong
    if old.size == new.size:
        if old.root != new.root or path:
            raise wrong
        return
    if old.size == 0:
        if path:
            raise wrong
        return
    parts = list(path)
    if old.size & (old.size - 1) == 0:
        parts.insert(0, old.root)
    if not parts:
        raise wrong
    fn, sn = old.size - 1, new.size - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = parts[0]
    for part in parts[1:]:
        if sn == 0:
            raise wrong
        if fn & 1 or fn == sn:
            first = node_hash(part, first)
            second = node_hash(part, second)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, part)
        fn >>= 1
        sn >>= 1
    if sn or first != old.root or second != new.root:
        raise wrong


# -- proofs ----------------------------------------------------------------------------------------------------------


def verify_proof(proof: Any, key: Key, verify_ed25519: VerifyEd25519) -> dict[str, Any]:
    """The proved event, as the exact bytes say it. Raises VerificationError."""
    try:
        if proof["format"] != FORMAT:
            raise VerificationError(f"the proof is of the format {str(proof['format'])[:50]!r}")
        note, index, shown, id = proof["checkpoint"], proof["index"], proof["event"], proof["id"]
        payload = base64.b64decode(proof["payload"], validate=True)
        path = [base64.b64decode(part, validate=True) for part in proof["inclusion"]]
        if not isinstance(note, str) or type(index) is not int or any(len(part) != 32 for part in path):
            raise ValueError("types")
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise VerificationError("not a proof: format, id, event, payload, index, inclusion, checkpoint") from None
    head = open_checkpoint(note, key, verify_ed25519)  # step 1
    leaf = leaf_hash(payload)  # step 2
    if root_from_inclusion(leaf, index, head.size, path) != head.root:  # step 3
        raise VerificationError("the event is not in the log: the inclusion proof leads to another root")
    try:  # step 4
        event = json.loads(payload)
        proved_id = event["metadata"]["uid"]
    except (ValueError, KeyError, TypeError):
        raise VerificationError("the payload is not an event") from None
    if not isinstance(event, dict) or event != shown or proved_id != id:
        raise VerificationError("the event shown is not the one that is in the log")
    return event


# -- as a script -----------------------------------------------------------------------------------------------------


def openssl_verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """By OpenSSL 3's command, for machines that have this file and no library. Raises VerificationError without it."""
    import subprocess  # nosec B404 - only here, with fixed arguments
    import tempfile

    der = bytes.fromhex("302a300506032b6570032100") + public_key  # RFC 8410 section 4
    with tempfile.TemporaryDirectory() as directory:
        names = ("key.der", "signature", "message")
        key_file, signature_file, message_file = (os.path.join(directory, name) for name in names)
        for name, data in ((key_file, der), (signature_file, signature), (message_file, message)):
            Path(name).write_bytes(data)
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", key_file]
        command += ["-sigfile", signature_file, "-in", message_file]
        try:
            ended = subprocess.run(command, capture_output=True, check=False)  # nosec B603 - no shell, own files
        except OSError as error:
            raise VerificationError(f"the signature can't be checked: openssl: {error.strerror}") from None
    return ended.returncode == 0


def main(arguments: Sequence[str]) -> int:
    """`PROOF.json KEY_FILE`. Exit codes: 0 right, 1 wrong, 2 bad usage."""
    if len(arguments) != 2:
        print("usage: python verifier.py PROOF.json KEY_FILE", file=sys.stderr)
        return 2
    try:
        key = Key.parse(Path(arguments[1]).read_text("utf-8"))
        event = verify_proof(json.loads(Path(arguments[0]).read_bytes()), key, openssl_verify_ed25519)
    except VerificationError as error:
        print(f"wrong: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"can't be read: {error}", file=sys.stderr)
        return 2
    print(json.dumps(event))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
