"""A witness cosigns a log's checkpoint only when the log grew from what it cosigned before (c2sp.org/tlog-witness).

It keeps one file for each log, the last note it cosigned, and writes it before it answers: killed at any moment it has
never cosigned two histories. Two checkpoints of one size with different roots, both signed by the log, are the proof
that the log lied; such a pair is kept beside it (`ORIGIN.split`) for whoever investigates. Growth that was not
proved proves nothing by itself: anybody can send an honest checkpoint with a wrong proof. Such pairs are kept apart
(`ORIGIN.NOTE.unproved`), a few of them, so that nobody can fill the disk or the place of what does prove something.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rempart.crypto.cosigning import Cosigner
from rempart.crypto.signing import NoteVerifier
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, Conflict, Denied, Integrity, NotFound, Unprocessable

from .checkpoint import Checkpoint
from .verifier import Head, VerificationError, verify_consistency

MAX_BODY = 16 << 10
_MAX_PROOF = 63
_MOST_UNPROVED = 16


class LogKey(Protocol):
    def verify(self, note: str) -> str:
        """The text of a note by the log's key. Raises Integrity `bad_signature`."""


class SeveralKeys:
    """Of one log, while its key rotates: a note by any of them is the log's."""

    def __init__(self, keys: Sequence[NoteVerifier]) -> None:
        self._keys = keys

    def verify(self, note: str) -> str:
        for key in self._keys[1:]:
            try:
                return key.verify(note)
            except Integrity:
                continue
        return self._keys[0].verify(note)


class SizeConflict(Conflict):
    """`size` is what the witness knows of the log."""

    def __init__(self, size: int, reason: str) -> None:
        super().__init__("witness_conflict", reason, "prove growth from the size that the witness knows")
        self.size = size


class Witness:
    """`logs`: the key of each log by origin. One thread; `told` hears of a log that lied."""

    def __init__(
        self,
        directory: Path,
        cosigner: Cosigner,
        logs: Mapping[str, LogKey],
        clock: Clock,
        told: Callable[[str], None],
    ) -> None:
        self._directory, self._cosigner, self._logs, self._clock, self._told = directory, cosigner, logs, clock, told
        self._known = {origin: self._load(origin) for origin in logs}

    def add_checkpoint(self, body: bytes) -> str:
        """The cosignature line for a request's body; durable first.

        Raises BadInput `bad_request` (400), Denied `unknown_signature` (403), NotFound `unknown_log` (404),
        SizeConflict (409), Unprocessable `bad_consistency` (422).
        """
        old, path, note = _parse(body)
        origin = note.partition("\n")[0]
        key = self._logs.get(origin)
        if key is None:
            raise NotFound("unknown_log", "this witness does not know that log", "add its key to the witness")
        try:
            text = key.verify(note)
            new = Checkpoint.decode(text)
        except Integrity as error:
            if error.code == "bad_signature":
                raise Denied("unknown_signature", "the checkpoint is not signed by the log's key") from None
            raise BadInput("bad_request", error.reason) from None
        if old > new.size:
            raise BadInput("bad_request", "the old size is larger than the checkpoint's")
        known_note, known = self._known[origin]
        if old != known.size:
            raise SizeConflict(known.size, f"the witness knows {known.size} events of this log, not {old}")
        if known.size == new.size and known.root != new.root and known_note:
            self._lied(origin, known_note, note, f"it signed two different histories of {new.size} events")
            raise SizeConflict(known.size, "the witness knows another log of this size: the log has two histories")
        self._check(origin, known, new, path, known_note, note)
        if new.size > known.size or not known_note:
            self._save(origin, note)
            self._known[origin] = (note, new)
        return self._cosigner.cosign(text, int(self._clock.now()))

    def size(self, origin: str) -> int:
        return self._known[origin][1].size

    def _check(
        self, origin: str, known: Checkpoint, new: Checkpoint, path: list[bytes], known_note: str, note: str
    ) -> None:
        if known.size == 0:
            if path:
                raise Unprocessable("bad_consistency", "growth from nothing has an empty proof")
            return
        try:
            verify_consistency(Head(known.size, known.root), Head(new.size, new.root), path)
        except VerificationError as error:
            self._unproved(origin, known_note, note, f"growth from {known.size} to {new.size} events was not proved")
            raise Unprocessable("bad_consistency", str(error), "send the proof from the witness's size") from None

    def _load(self, origin: str) -> tuple[str, Checkpoint]:
        """Raises Integrity when the file isn't what the witness once wrote: then nothing may be cosigned."""
        try:
            note = (self._directory / _name(origin)).read_text("utf-8")
        except FileNotFoundError:
            return "", Checkpoint(origin, 0, hashlib.sha256(b"").digest())
        return note, Checkpoint.decode(self._logs[origin].verify(note))

    def _save(self, origin: str, note: str) -> None:
        replace_file(self._directory / _name(origin), note.encode())

    def _lied(self, origin: str, known: str, new: str, why: str) -> None:
        evidence = self._directory / f"{_name(origin)}.split"
        if not evidence.exists():
            evidence.write_text(f"{known}\n{new}", "utf-8")
        self._told(f"{origin}: {why}; both checkpoints are in {evidence}")

    def _unproved(self, origin: str, known: str, new: str, why: str) -> None:
        """Said once for each checkpoint."""
        mark = hashlib.sha256(new.encode()).hexdigest()[:8]
        kept = self._directory / f"{_name(origin)}.{mark}.unproved"
        if kept.exists() or len(list(self._directory.glob(f"{_name(origin)}.*.unproved"))) >= _MOST_UNPROVED:
            return
        kept.write_text(f"{known}\n{new}", "utf-8")
        self._told(f"{origin}: {why}: if the log itself asked, it was rewritten; both checkpoints are in {kept}")


def _parse(body: bytes) -> tuple[int, list[bytes], str]:
    """`old SIZE`, the proof's hashes a line each, an empty line, the checkpoint."""
    try:
        head, gap, note = body.decode("utf-8").partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        if not gap or word != "old" or not size.isascii() or not size.isdigit() or str(int(size)) != size:
            raise ValueError(first)
        path = [base64.b64decode(line, validate=True) for line in lines]
        if len(path) > _MAX_PROOF or any(len(part) != 32 for part in path):
            raise ValueError(lines)
    except (ValueError, binascii.Error):
        raise BadInput("bad_request", "expected: old SIZE, hashes, an empty line, a checkpoint") from None
    return int(size), path, note


def request_body(old: int, path: list[bytes], note: str) -> bytes:
    """What a log sends to `POST /add-checkpoint`."""
    lines = "".join(base64.b64encode(part).decode() + "\n" for part in path)
    return f"old {old}\n{lines}\n{note}".encode()


def _name(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()[:32]
