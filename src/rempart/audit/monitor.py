"""Follow a log from outside, trusting nothing but its key: that it only grows, and that it shows everybody the same.

A look is done in these steps:
1. the checkpoint is signed by a key that is trusted: the one given, or one that the log itself announced under such a
   key (`system.log_key_rotated`);
2. it has at least the events seen before; as many with the same root; fewer is a rewind, or another history;
3. some of what was seen before, chosen at random, still reads the same;
4. what was added, read and hashed, gives the signed root on top of what was seen before.
What was seen is kept as one hash for 256 events (32 MB for a thousand million).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, Unavailable
from rempart.kernel.event import EventType

from .verifier import Head, Key, VerificationError, VerifyEd25519, leaf_hash, open_checkpoint
from .whole_log import WIDTH, bundle_entries, perfect_root, push, stack_root, tile_number

_ROTATED = EventType.LOG_KEY_ROTATED.encode()
SEQUENCER = "sequencer"


class LogFiles(Protocol):
    """A log as c2sp.org/tlog-tiles serves it."""

    def fetch(self, name: str) -> bytes | None:
        """`checkpoint`, `tile/…`; None for what isn't there. Raises Unavailable."""


class Memory(msgspec.Struct, forbid_unknown_fields=True):
    """What was seen of a log. `checkpoint` is the last one found right; `grown_at` when it was first seen."""

    keys: list[str]
    size: int = 0
    root: bytes = b""
    checkpoint: str = ""
    grown_at: float = 0.0
    bundles: bytes = b""  # 32 bytes for each full bundle: the root over its 256 events


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: unsigned, rewound, split, rewritten, incomplete, stale, unreachable. All but the last two are a lie."""

    kind: str
    reason: str
    checkpoint: str = ""

    @property
    def is_lie(self) -> bool:
        return self.kind not in ("stale", "unreachable")


@dataclass
class Look:
    size: int = 0
    added: int = 0
    rechecked: int = 0
    unread: int = 0  # events that were deleted by retention: their hashes were taken from the tree
    new_keys: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class _Lie(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def load_memory(path: Path, key: str) -> Memory:
    """What is in `path`; new when there is none. Raises BadInput when it is of another log or unreadable."""
    given = Key.parse(key)
    try:
        memory = msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory(keys=[key.strip()])
    except msgspec.DecodeError as error:
        raise BadInput("bad_monitor_state", f"{path}: {error}", "name another file with --memory") from None
    if len(memory.bundles) != memory.size // WIDTH * 32:
        raise BadInput("bad_monitor_state", f"{path} is not whole", "name another file with --memory")
    if not any(Key.parse(known) == given for known in memory.keys):
        raise BadInput("other_log", f"{path} remembers another log, or trusts another key", "name another file")
    return memory


def save_memory(path: Path, memory: Memory) -> None:
    replace_file(path, msgspec.json.encode(memory))


class Monitor:
    """Holds `memory` and changes it only by looks that found nothing wrong."""

    def __init__(
        self,
        files: LogFiles,
        memory: Memory,
        verify_ed25519: VerifyEd25519,
        *,
        recheck: int = 4,
        stale_after: float = 0.0,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        """`recheck`: bundles read again at each look. `stale_after` seconds without growth; 0: never."""
        self.memory = memory
        self._files = files
        self._verify = verify_ed25519
        self._recheck = recheck
        self._stale_after = stale_after
        self._progress = progress
        self._choose = random.SystemRandom()

    def look(self, now: float) -> Look:
        """Look once; never raises for what is found or when nothing can be read."""
        look = Look(size=self.memory.size)
        note = ""
        try:
            raw = self._files.fetch("checkpoint")
            if raw is None:
                raise Unavailable("no_checkpoint", "the log has no checkpoint")
            note = raw[:65_536].decode("utf-8", "replace")
            self._judge(note, look, now)
        except _Lie as lie:
            look.findings.append(Finding(lie.kind, str(lie), note))
        except Unavailable as error:
            look.findings.append(Finding("unreachable", error.reason))
        if self._stale_after and self.memory.grown_at and now - self.memory.grown_at > self._stale_after:
            waited = int(now - self.memory.grown_at)
            look.findings.append(Finding("stale", f"nothing was added for {waited} s", self.memory.checkpoint))
        return look

    # -- inside ------------------------------------------------------------------------------------------------------

    def _judge(self, note: str, look: Look, now: float) -> None:
        memory = self.memory
        head = self._head(note)
        if head.size < memory.size:
            same = self._root_at(head.size) == head.root
            raise _Lie(
                "rewound" if same else "split",
                f"it shows {head.size} events and had {memory.size} before"
                + ("" if same else ", and not those that it had"),
            )
        if memory.size and head.size == memory.size and head.root != memory.root:
            raise _Lie("split", f"it shows two different histories of {head.size} events")
        self._look_again(look)
        if head.size > memory.size:
            self._grow(head, note, look, now)
        look.size = self.memory.size

    def _head(self, note: str) -> Head:
        reasons = []
        for key in reversed(self.memory.keys):
            try:
                return open_checkpoint(note, Key.parse(key), self._verify)
            except VerificationError as error:
                reasons.append(str(error))
        raise _Lie("unsigned", reasons[0])

    def _grow(self, head: Head, note: str, look: Look, now: float) -> None:
        """Read from the first bundle that wasn't full to the new end; take it over if it gives the signed root."""
        memory = self.memory
        known = memory.size // WIDTH
        bundles = bytearray(memory.bundles)
        keys = list(memory.keys)
        stack = _stack(memory.bundles)
        for number in range(known, (head.size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, head.size - number * WIDTH)
            entries, hashes = self._bundle(number, width, look)
            if number == known and memory.size % WIDTH:
                old = list(stack)
                for leaf in hashes[: memory.size % WIDTH]:
                    push(old, leaf)
                if stack_root(old) != memory.root:
                    raise _Lie("rewritten", f"some of the events {number * WIDTH} to {memory.size - 1} were changed")
            keys += [key for key in self._announced(entries) if key not in keys]
            if width == WIDTH:
                root = perfect_root(hashes)
                bundles += root
                push(stack, root, 8)
            else:
                for leaf in hashes:
                    push(stack, leaf)
            self._progress(number * WIDTH + width, head.size)
        if stack_root(stack) != head.root:
            raise _Lie("split", f"its {head.size} events are not the {memory.size} seen before and what was added")
        look.added = head.size - memory.size
        look.new_keys = keys[len(memory.keys) :]
        self.memory = Memory(keys, head.size, head.root, note, now, bytes(bundles))

    def _bundle(self, number: int, width: int, look: Look) -> tuple[Sequence[bytes], list[bytes]]:
        """Its entries and their hashes; from the tree where the entries were deleted."""
        name = tile_number(number)
        raw = self._tile(f"tile/entries/{name}", width)
        if raw is not None:
            try:
                entries = bundle_entries(raw)[:width]
            except ValueError as error:
                raise _Lie("incomplete", f"tile/entries/{name}: {error}") from None
            if len(entries) == width:
                return entries, [leaf_hash(entry) for entry in entries]
        hashes = self._tile(f"tile/0/{name}", width)
        if hashes is None or len(hashes) < 32 * width:
            raise _Lie("incomplete", f"the events {number * WIDTH} to {number * WIDTH + width - 1} can't be read")
        look.unread += width
        return (), [hashes[at : at + 32] for at in range(0, 32 * width, 32)]

    def _tile(self, name: str, width: int) -> bytes | None:
        """A partial tile may have been replaced by the full one."""
        if width < WIDTH and (partial := self._files.fetch(f"{name}.p/{width}")) is not None:
            return partial
        return self._files.fetch(name)

    def _announced(self, entries: Sequence[bytes]) -> list[str]:
        """Keys that an event of the sequencer's says the log is signed by from now on."""
        found = []
        for entry in entries:
            if _ROTATED in entry and (key := _rotation(entry)):
                try:
                    if Key.parse(key).origin == Key.parse(self.memory.keys[0]).origin:
                        found.append(key)
                except VerificationError:
                    continue
        return found

    def _look_again(self, look: Look) -> None:
        full = len(self.memory.bundles) // 32
        for number in self._choose.sample(range(full), min(self._recheck, full)):
            _, hashes = self._bundle(number, WIDTH, Look())
            if perfect_root(hashes) != self.memory.bundles[32 * number : 32 * number + 32]:
                first = number * WIDTH
                raise _Lie("rewritten", f"some of the events {first} to {first + WIDTH - 1} were changed")
            look.rechecked += WIDTH

    def _root_at(self, size: int) -> bytes:
        """Of the first `size` events seen; b"" where they can't be read as they were."""
        number, rest = divmod(size, WIDTH)
        stack = _stack(self.memory.bundles[: 32 * number])
        if rest:
            try:
                _, hashes = self._bundle(number, rest, Look())
            except _Lie:
                return b""
            for leaf in hashes:
                push(stack, leaf)
        return stack_root(stack)


def _stack(bundles: bytes) -> list[tuple[int, bytes]]:
    stack: list[tuple[int, bytes]] = []
    for at in range(0, len(bundles), 32):
        push(stack, bundles[at : at + 32], 8)
    return stack


def _rotation(entry: bytes) -> str:
    try:
        own: Any = json.loads(entry)["unmapped"]["rempart"]
        rotated = own["type"] == EventType.LOG_KEY_ROTATED and own["source"] == SEQUENCER and own["success"] is True
        return str(own["after"]["key"]) if rotated else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
