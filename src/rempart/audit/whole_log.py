"""Check a whole log, wherever it is kept, against its signed checkpoint, recomputing everything from the entries.

Shares no code with what writes the log, only the steps of `verifier`. A log is checked in these:
1. the checkpoint is signed by the given key;
2. every entry bundle has exactly the entries it must have, and nothing after them; where events were deleted
   (`audit.retention`) their hashes are the tree's, and the log itself says that they were;
3. every tile of every level has exactly the hashes that follow from the entries (c2sp.org/tlog-tiles);
4. the root that follows from the entries is the checkpoint's;
5. the root at the size of each checkpoint remembered from before is the one remembered: the log only grew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from .verifier import Head, Key, VerificationError, VerifyEd25519, leaf_hash, node_hash, open_checkpoint

WIDTH = 256
_PRUNED = b"system.events_pruned"


class Files(Protocol):
    """A log's files by their names of c2sp.org/tlog-tiles. What can't be read now raises, and ends the verification
    unless it is an OSError."""

    def read(self, name: str) -> bytes | None:
        """None: there is none."""

    def names(self, prefix: str) -> Iterator[str]:
        """Of all files below `prefix`, which ends in a slash; in any order."""


@dataclass
class LogReport:
    """`problems` is empty when everything is right. `size` and `root` are the signed ones, if they could be read."""

    size: int = 0
    root: bytes = b""
    checkpoint: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_log(
    where: Path | Files, key: Key, verify_ed25519: VerifyEd25519, remembered: Sequence[Head] = ()
) -> LogReport:
    """Recompute everything from the entries; never raises for what is found. Reads each file once."""
    files = _Directory(where) if isinstance(where, Path) else where
    report = LogReport()
    try:
        note = files.read("checkpoint")
        if note is None:
            raise FileNotFoundError("there is none")
        report.checkpoint = note.decode("utf-8")
        head = open_checkpoint(report.checkpoint, key, verify_ed25519)  # step 1
    except (OSError, ValueError, VerificationError) as error:
        report.problems.append(f"checkpoint: {error}")
        return report
    report.size, report.root = head.size, head.root
    for old in remembered:
        if old.size > head.size:
            report.problems.append(
                f"checkpoint: the log has {head.size} events and had {old.size} before: it was cut or rewound"
            )
    _Walk(files, head, remembered, report).run()
    return report


class _Directory:
    """Shares nothing with the storage that wrote it."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def read(self, name: str) -> bytes | None:
        try:
            return (self._top / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, prefix: str) -> Iterator[str]:
        for parent, _, files in os.walk(self._top / prefix):
            yield from (Path(parent, name).relative_to(self._top).as_posix() for name in files)


class _Walk:
    def __init__(self, files: Files, head: Head, remembered: Sequence[Head], report: LogReport) -> None:
        self._files = files
        self._head = head
        self._remembered = {old.size: old.root for old in remembered if old.size <= head.size}
        self._known = list(remembered)
        self._problems = report.problems
        self._deleted: list[int] = []  # numbers of bundles of which events are gone
        self._told: list[tuple[int, int]] = []  # which events the log says were deleted

    def run(self) -> None:
        rows: list[list[bytes]] = [[]]
        stack: list[tuple[int, bytes]] = []  # (height, root) of complete subtrees, left to right
        size = 0
        self._compare_remembered(0, stack)
        for number, hashes in self._bundles():
            for leaf in hashes:
                push(stack, leaf)
                size += 1
                if size in self._remembered:
                    self._compare_remembered(size, stack)
            self._check_tile(0, number, hashes)
            rows[0] = hashes
            level = 0
            at = number
            while len(rows[level]) == WIDTH:
                root = perfect_root(rows[level])
                rows[level] = []
                level += 1
                if level == len(rows):
                    rows.append([])
                rows[level].append(root)
                at //= WIDTH
                if len(rows[level]) == WIDTH:
                    self._check_tile(level, at, rows[level])
        for level, row in enumerate(rows[1:], start=1):
            if row:
                self._check_tile(level, (size >> 8 * level) // WIDTH, row)
        if size != self._head.size:
            self._problems.append(f"log: only the first {size} of {self._head.size} events can be read")
        elif stack_root(stack) != self._head.root:
            self._problems.append("checkpoint: the events of the log don't give the signed root")
        self._check_deletions()
        self._check_strangers()

    def _bundles(self) -> Iterator[tuple[int, list[bytes]]]:
        """The hashes of each bundle's entries in order; stops at the first that can't be read."""
        for number in range((self._head.size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, self._head.size - number * WIDTH)
            name, raw, stored = self._read("entries", number, width)
            if raw is None and (hashes := self._pruned(number)) is not None:
                yield number, hashes
                continue
            if raw is None:
                self._problems.append(f"{name}: missing")
                return
            try:
                entries = bundle_entries(raw)
            except ValueError as error:
                self._problems.append(f"{name}: {error}")
                return
            if len(entries) != stored:
                self._problems.append(f"{name}: has {len(entries)} entries instead of {stored}")
                if len(entries) < width:
                    return
            self._note_deletions(entries)
            yield number, [leaf_hash(entry) for entry in entries[:width]]

    def _pruned(self, number: int) -> list[bytes] | None:
        """The hashes of a bundle of which events were deleted, from the tree; what stays must have its own."""
        name = f"kept/{tile_number(number)}"
        try:
            raw = self._files.read(name)
            tile = self._files.read(f"tile/0/{tile_number(number)}")
        except OSError:
            return None
        if raw is None or tile is None or len(tile) != 32 * WIDTH:
            return None  # told as missing, and by what checks tiles
        hashes = [tile[at : at + 32] for at in range(0, len(tile), 32)]
        stays = []
        at = 0
        while at < len(raw):
            end = at + 3 + int.from_bytes(raw[at + 1 : at + 3], "big")
            if end > len(raw) or leaf_hash(raw[at + 3 : end]) != hashes[raw[at]]:
                self._problems.append(f"{name}: is not what the tree has of event {number * WIDTH + raw[at]}")
                break
            stays.append(raw[at + 3 : end])
            at = end
        self._note_deletions(stays)
        self._deleted.append(number)
        return hashes

    def _note_deletions(self, entries: Sequence[bytes]) -> None:
        """Which events the log says were deleted: its sequencer alone can say it."""
        for entry in entries:
            if _PRUNED in entry:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    own = json.loads(entry)["unmapped"]["rempart"]
                    if own["type"] == "system.events_pruned" and own["source"] == "sequencer":
                        self._told.append((int(own["details"]["first"]), int(own["details"]["end"])))

    def _check_deletions(self) -> None:
        for number in self._deleted:
            first = number * WIDTH
            if not any(start <= first and first + WIDTH <= end for start, end in self._told):
                self._problems.append(
                    f"log: of events {first} to {first + WIDTH - 1} some are gone, and it doesn't say so"
                )

    def _check_tile(self, level: int, number: int, hashes: Sequence[bytes]) -> None:
        name, raw, stored = self._read(str(level), number, len(hashes))
        if raw is None:
            self._problems.append(f"{name}: missing")
            return
        if len(raw) != 32 * stored:
            self._problems.append(f"{name}: has {len(raw)} bytes instead of {32 * stored}")
        for at, expected in enumerate(hashes):
            if raw[32 * at : 32 * at + 32] != expected:
                first = (number * WIDTH + at) * WIDTH**level
                count = WIDTH**level
                which = f"event {first}" if count == 1 else f"events {first} to {first + count - 1}"
                self._problems.append(f"{name}: hash {at} is not the one of {which}")
                return

    def _read(self, level: str, number: int, width: int) -> tuple[str, bytes | None, int]:
        """(name, bytes, width) of the tile, or of a longer one that the growing log has put in its place."""
        base = f"tile/{level}/{tile_number(number)}"
        widths = [width]
        if width < WIDTH:
            last = [name.rpartition("/")[2] for name in self._files.names(f"{base}.p/")]
            there = [int(name) for name in last if name.isdigit()]
            widths += [*sorted(w for w in there if width < w < WIDTH), WIDTH]
        for candidate in (*widths, *widths):  # twice: the growing log may replace one while it is looked for
            name = base if candidate == WIDTH else f"{base}.p/{candidate}"
            try:
                if (raw := self._files.read(name)) is not None:
                    return name, raw, candidate
            except OSError as error:
                self._problems.append(f"{name}: {error.strerror}")
                break
        return base if width == WIDTH else f"{base}.p/{width}", None, width

    def _compare_remembered(self, size: int, stack: list[tuple[int, bytes]]) -> None:
        root = self._remembered.get(size)
        if root is not None and stack_root(stack) != root:
            self._problems.append(f"log: its first {size} events are not those that it had before: it was rewritten")

    def _check_strangers(self) -> None:
        """Older partial tiles say the same as longer ones; what is no tile at all doesn't belong there."""
        for name in self._files.names("tile/"):
            path = PurePosixPath(name)
            if path.parent.name.endswith(".p") and path.name.isdigit():
                self._check_older_partial(path, int(path.name))
            elif not path.name.isdigit():
                self._problems.append(f"{path}: is no part of a log")

    def _check_older_partial(self, path: PurePosixPath, width: int) -> None:
        """Right when what replaced it begins with the same bytes. One newer than the checkpoint is left alone."""
        level = path.parts[1]
        depth = 0 if level == "entries" else int(level)
        groups = "/".join(path.parent.parts[2:]).removesuffix(".p").split("/")
        number = int("".join(group.removeprefix("x") for group in groups))
        have = min(WIDTH, (self._head.size >> 8 * depth) - number * WIDTH)
        if width > have or not 0 < width < WIDTH:
            return
        _, longer, _ = self._read(level, number, have)
        if longer is None or width == have:
            return
        try:
            raw = self._files.read(str(path))
        except OSError:
            raw = None
        if raw is None:
            return  # removed meanwhile
        expected = longer[: 32 * width] if level != "entries" else _first_entries(longer, width)
        if raw != expected:
            self._problems.append(f"{path}: is not the beginning of what replaced it")


def push(stack: list[tuple[int, bytes]], leaf: bytes, height: int = 0) -> None:
    """Add a leaf, or the root of a complete subtree of 2^`height` leaves, to `stack`: (height, root), left to right."""
    root = leaf
    while stack and stack[-1][0] == height:
        root = node_hash(stack.pop()[1], root)
        height += 1
    stack.append((height, root))


def stack_root(stack: Sequence[tuple[int, bytes]]) -> bytes:
    if not stack:
        return hashlib.sha256(b"").digest()
    root = stack[-1][1]
    for _, left in reversed(stack[:-1]):
        root = node_hash(left, root)
    return root


def perfect_root(row: Sequence[bytes]) -> bytes:
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def bundle_entries(bundle: bytes) -> list[bytes]:
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise ValueError(f"ends within entry {len(entries)}")
        entries.append(bundle[at + 2 : end])
        at = end
    return entries


def _first_entries(bundle: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    return bundle[:at]


def tile_number(number: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))
