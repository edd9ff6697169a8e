"""Asking witnesses to cosign the log's checkpoints, so that it can't show different people different histories.

A checkpoint counts as witnessed when `quorum` of the witnesses cosigned it; the last such note is kept in a file and
is what proofs for strangers are made against. A witness that is away delays nothing else. One that says the log went
back or changed raises an alarm each time anew: the operator must find out why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rempart.crypto.cosigning import CosignatureVerifier
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, RempartError

from .checkpoint import Checkpoint
from .log import MerkleLog
from .witness import SizeConflict, request_body

Alarm = Callable[[str], Awaitable[None]]


class NoteKey(Protocol):
    """The log's key, or keys."""

    def verify(self, note: str) -> str:
        """Raises Integrity `bad_signature`."""


class WitnessLine(Protocol):
    """The way to one witness (`backends.http_witness`)."""

    async def add_checkpoint(self, body: bytes) -> str:
        """The cosignature lines. Raises SizeConflict, Unprocessable `bad_consistency`, Unavailable, BadInput."""


@dataclass(frozen=True, slots=True)
class Named:
    """A witness as the operator named it."""

    key: CosignatureVerifier
    line: WitnessLine


class Cosigning:
    """One per log, on its event loop. `path` keeps the last witnessed note."""

    def __init__(
        self, log: MerkleLog, key: NoteKey, witnesses: Sequence[Named], quorum: int, path: Path, alarm: Alarm
    ) -> None:
        self._log, self._key, self._witnesses, self._quorum = log, key, witnesses, quorum
        self._path, self._alarm = path, alarm
        self._sizes = {witness.key.name: 0 for witness in witnesses}
        self._failing: dict[str, str] = {}
        self._denied: set[str] = set()
        try:
            self.note = path.read_text("utf-8")
            self._check(self.note)
        except (FileNotFoundError, Integrity):
            self.note = ""

    @property
    def size(self) -> int:
        """Of the last witnessed checkpoint; 0 when there is none."""
        return Checkpoint.decode(self.note).size if self.note else 0

    async def ask(self) -> None:
        """Have the log's present checkpoint cosigned. Never raises for what a witness does."""
        note, size = self._log.checkpoint, self._log.size
        if size == 0 or (self.note and Checkpoint.decode(self.note) == Checkpoint.decode(note)):
            return
        asked = await asyncio.gather(*(self._cosigned(witness, note, size) for witness in self._witnesses))
        lines = [line for line in asked if line]
        if len(lines) >= self._quorum:
            self._save(note + "".join(lines))

    def cosigners(self) -> dict[str, str]:
        """What hinders each witness now; "" where nothing does."""
        return {witness.key.name: self._failing.get(witness.key.name, "") for witness in self._witnesses}

    async def _cosigned(self, witness: Named, note: str, size: int) -> str:
        """Its line on `note`, or "" for now."""
        name = witness.key.name
        try:
            for _ in range(2):  # a second time from the size that the witness says
                old = self._sizes[name]
                try:
                    answer = await witness.line.add_checkpoint(
                        request_body(old, self._log.prove_consistency(old, size), note)
                    )
                except SizeConflict as conflict:
                    if conflict.size > size or conflict.size == old:
                        await self._lied(name, f"it knows {conflict.size} events, we have {size}: {conflict.reason}")
                        return ""
                    self._sizes[name] = conflict.size
                    continue
                line, _ = witness.key.line_of(note + answer)
                self._sizes[name] = size
                self._failing.pop(name, None)
                self._denied.discard(name)
                return line
            return ""
        except RempartError as error:
            if error.code == "bad_consistency":
                await self._lied(name, error.reason)
            else:
                self._failing[name] = error.reason
            return ""

    async def _lied(self, name: str, why: str) -> None:
        """Alarm once, until it cosigns again."""
        why = f"the witness {name} does not recognise this log: {why}"
        if name not in self._denied:
            self._denied.add(name)
            await self._alarm(why)
        self._failing[name] = why

    def _check(self, note: str) -> None:
        self._key.verify(note)

    def _save(self, note: str) -> None:
        replace_file(self._path, note.encode(), 0o644)
        self.note = note
