"""The Merkle log on disk: append, commit atomically together with how far each journal was read, prove.

Exactly once. `state` is the one record that counts: size, root, the signed checkpoint and the cursor of each journal,
replaced atomically (write, sync, rename, sync of the directory) after every tile that it covers was synced. A crash
before the rename leaves tiles that no state covers: opening removes them and the same records are read again from the
journals. So a checkpoint is never seen for leaves that could still change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.kernel.errors import Integrity

from .checkpoint import Checkpoint
from .merkle import EMPTY_ROOT, consistency_proof, fold_right, inclusion_proof, leaf_hash, perfect_root
from .reader import Cursor
from .tiles import ENTRIES, WIDTH, TileReader, encode_entries, tile_path

_KEEP_PARTIAL = 60.0  # seconds that a reader of an older checkpoint has to finish
_PARTIAL = re.compile(r"(.+)\.p/(\d+)")


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    root: bytes
    checkpoint: str
    cursors: dict[str, Cursor] = {}


class MerkleLog:
    """One process opens it for writing. Not thread-safe. `checkpoint` is the signed note that covers `size` leaves."""

    def __init__(self, directory: Path, state_path: Path, signer: NoteSigner) -> None:
        """Raises Integrity when what is on disk isn't what was committed: nothing may be added to such a log."""
        self.directory = directory
        self._state_path = state_path
        self._signer = signer
        self._tiles = TileReader(directory)
        self._known_directories: set[Path] = set()
        self._superseded: deque[tuple[float, Path]] = deque()
        self._written: list[Path] = []  # by the commit under way: nothing of it counts before the state does
        directory.mkdir(parents=True, exist_ok=True)
        state = _load_state(state_path)
        if state is None:
            if (directory / "checkpoint").exists():
                raise Integrity(
                    "log_state_missing", f"{directory} has a log and {state_path} is gone", "restore it from a backup"
                )
            state = State(0, EMPTY_ROOT, signer.sign(Checkpoint(signer.name, 0, EMPTY_ROOT).encode()))
        self._state = state
        self._edge = self._load_edge()
        self._remove_uncommitted()
        if state.size == 0:
            self._save(state)
        self._unpublished = True
        self.publish()
        self.signed_at = time.monotonic()

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def root(self) -> bytes:
        return self._state.root

    @property
    def checkpoint(self) -> str:
        return self._state.checkpoint

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        return self._state.cursors

    def integrate(self, entries: Sequence[bytes], cursors: Mapping[str, Cursor]) -> None:
        """Append `entries` and remember `cursors`, both or neither; returns when durable and signed.

        Raises OSError when the disk refuses: then the log is as before, and the same call may be made again. Raises
        Integrity `log_commit_unknown` when it refused so late that only opening the log again tells.
        """
        edge = [list(level) for level in self._edge]
        self._written.clear()
        try:
            state = self._commit(entries, edge, cursors)
        except OSError:
            self._discard()
            raise
        old = self._state
        self._state, self._edge = state, edge
        if entries:
            self._unpublished = True
            with contextlib.suppress(OSError):  # committed all the same: `publish` is asked again before the next one
                self.publish()
            self.signed_at = time.monotonic()
            self._retire(old.size)

    def publish(self) -> None:
        """Write `checkpoint` for readers if the newest one isn't there yet. Raises OSError."""
        if self._unpublished:
            _replace(self.directory / "checkpoint", self.checkpoint.encode(), sync=False)  # opening makes it again
            self._unpublished = False

    def _commit(self, entries: Sequence[bytes], edge: list[list[bytes]], cursors: Mapping[str, Cursor]) -> State:
        size, note = self.size, self.checkpoint
        if entries:
            touched: set[Path] = set()
            size = self._write(entries, edge, touched)
            for directory in sorted(touched, reverse=True):
                _sync_directory(directory)
        root = _edge_root(edge) if size else EMPTY_ROOT
        if entries:
            note = self._signer.sign(Checkpoint(self._signer.name, size, root).encode())
        state = State(size, root, note, dict(cursors))
        self._save(state)
        return state

    def _discard(self) -> None:
        """Remove what a failed commit wrote: the next one may put the journals' records in another order."""
        if _load_state(self._state_path) != self._state:
            raise Integrity(
                "log_commit_unknown", f"{self._state_path} may or may not be on disk", "start the sequencer again"
            )
        for path in self._written:
            path.unlink(missing_ok=True)

    # -- reading: all of these raise Integrity `log_damaged` ---------------------------------------------------------

    def entry(self, index: int) -> bytes:
        return self._tiles.entry(self.size, index)

    def entries(self, start: int, end: int) -> list[bytes]:
        """At least one and at most one bundle of the entries from `start`, before `end`."""
        bundle = start // WIDTH
        return self._tiles.entries(self.size, bundle)[start - bundle * WIDTH : end - bundle * WIDTH]

    def prove_inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """In the log as it was at `size` events; by default as it is."""
        size = self.size if size is None else size
        return inclusion_proof(lambda level, at: self._tiles.node(size, level, at), index, size)

    def prove_consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """From `old` to `size` events; by default to all."""
        size = self.size if size is None else size
        return consistency_proof(lambda level, at: self._tiles.node(size, level, at), old, size)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _write(self, entries: Sequence[bytes], edge: list[list[bytes]], touched: set[Path]) -> int:
        """Write every tile that `entries` change; `edge` becomes the longer tree's. Returns its size."""
        size = self.size
        bundle = self._tiles.entries(size, size // WIDTH) if size % WIDTH else []
        pending = list(bundle)
        position = 0
        while position < len(entries):
            taken = entries[position : position + WIDTH - len(pending)]
            position += len(taken)
            pending.extend(taken)
            _append(edge, 0, [leaf_hash(entry) for entry in taken], size >> 8, self, touched)
            size += len(taken)
            self._put(tile_path(ENTRIES, (size - 1) // WIDTH, len(pending)), encode_entries(pending), touched)
            if len(pending) == WIDTH:
                pending = []
        committed = set(_partial_tiles(self.size))
        for level, hashes in enumerate(edge):
            path = tile_path(level, size >> 8 * (level + 1), len(hashes))
            if hashes and path not in committed:  # what is committed is never written again: a crash could tear it
                self._put(path, b"".join(hashes), touched)
        return size

    def put_full_tile(self, level: int, number: int, hashes: Sequence[bytes], touched: set[Path]) -> None:
        self._put(tile_path(level, number), b"".join(hashes), touched)

    def _put(self, relative: str, data: bytes, touched: set[Path]) -> None:
        path = self.directory / relative
        parent = path.parent
        if parent not in self._known_directories:
            self._make_directory(parent, touched)
        self._written.append(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _write_all(fd, data)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        touched.add(parent)

    def _make_directory(self, path: Path, touched: set[Path]) -> None:
        if path != self.directory and path not in self._known_directories:
            self._make_directory(path.parent, touched)
            path.mkdir(exist_ok=True)
            touched.add(path.parent)
            self._known_directories.add(path)
            if len(self._known_directories) > 4096:
                self._known_directories.clear()

    def _save(self, state: State) -> None:
        body = msgspec.json.encode(state)
        _replace(self._state_path, body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n", sync=True)

    def _retire(self, old_size: int) -> None:
        """Remove what the partial tiles of checkpoints older than a minute held: longer tiles hold it too."""
        now = time.monotonic()
        for relative in _partial_tiles(old_size):
            self._superseded.append((now, self.directory / relative))
        current = {self.directory / relative for relative in _partial_tiles(self.size)}
        while self._superseded and self._superseded[0][0] < now - _KEEP_PARTIAL:
            _, path = self._superseded.popleft()
            if path not in current:
                path.unlink(missing_ok=True)
                try:
                    path.parent.rmdir()
                    self._known_directories.discard(path.parent)
                except OSError:
                    continue  # still holds others

    def _load_edge(self) -> list[list[bytes]]:
        """The partial tiles on the right edge, checked against the committed root and its signature."""
        size = self.size
        text = NoteVerifier(self._signer.name, self._signer.public_key).verify(self.checkpoint)
        if Checkpoint.decode(text) != Checkpoint(self._signer.name, size, self.root):
            raise Integrity("log_state_damaged", f"{self._state_path} contradicts its own checkpoint")
        edge = []
        level = 0
        while size >> 8 * level:
            width = (size >> 8 * level) % WIDTH
            number = size >> 8 * (level + 1)
            edge.append(list(self._tiles.hashes(size, level, number)) if width else [])
            level += 1
        root = _edge_root(edge) if size else EMPTY_ROOT
        if root != self.root:
            raise Integrity(
                "log_damaged",
                f"the tiles of {self.directory} don't give the committed root",
                "run `rempart audit verify`",
            )
        if size:
            last = (size - 1) // WIDTH
            entries = self._tiles.entries(size, last)
            hashes = self._tiles.hashes(size, 0, last)
            if [leaf_hash(entry) for entry in entries] != list(hashes):
                raise Integrity("log_damaged", f"{tile_path(ENTRIES, last)} is not what was committed")
        return edge

    def _remove_uncommitted(self) -> None:
        """Remove partial tiles other than the committed ones, and full tiles past them."""
        committed = set(_partial_tiles(self.size))
        root = self.directory / "tile"
        if not root.exists():
            return
        for parent, directories, files in os.walk(root, topdown=False):
            for name in files:
                path = Path(parent, name)
                relative = path.relative_to(self.directory).as_posix()
                if relative not in committed and not self._is_committed_full(relative):
                    path.unlink()
            if parent.endswith(".p") and not os.listdir(parent):
                os.rmdir(parent)
            directories.clear()

    def _is_committed_full(self, relative: str) -> bool:
        if _PARTIAL.fullmatch(relative):
            return False
        _, level, *groups = relative.split("/")
        try:
            number = int("".join(group.removeprefix("x") for group in groups))
            depth = 0 if level == ENTRIES else int(level)
        except ValueError:
            return True  # no tile at all: not ours to remove
        return number < self.size >> 8 * (depth + 1)


def _append(
    edge: list[list[bytes]], level: int, hashes: Sequence[bytes], number: int, log: MerkleLog, touched: set[Path]
) -> None:
    """Add to tile `number` of `level`, which they may fill but not overfill; a full one adds its root above."""
    if level == len(edge):
        edge.append([])
    row = edge[level]
    row.extend(hashes)
    if len(row) == WIDTH:
        log.put_full_tile(level, number, row, touched)
        root = perfect_root(row)
        edge[level] = []
        _append(edge, level + 1, [root], number >> 8, log, touched)


def _edge_root(edge: Sequence[Sequence[bytes]]) -> bytes:
    """The tree's root from the right edge: its complete subtrees, largest first."""
    subtrees = []
    for row in reversed(edge):
        at = 0
        for bit in range(7, -1, -1):
            width = 1 << bit
            if len(row) & width:
                subtrees.append(perfect_root(row[at : at + width]))
                at += width
    return fold_right(subtrees)


def _partial_tiles(size: int) -> list[str]:
    paths = []
    if size % WIDTH:
        paths.append(tile_path(ENTRIES, size // WIDTH, size % WIDTH))
    level = 0
    while size >> 8 * level:
        if width := (size >> 8 * level) % WIDTH:
            paths.append(tile_path(level, size >> 8 * (level + 1), width))
        level += 1
    return paths


def _load_state(path: Path) -> State | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    body, _, checksum = raw.rstrip(b"\n").rpartition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise Integrity("log_state_damaged", f"{path} was changed", "restore it from a backup")
    return msgspec.json.decode(body, type=State)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a full disk takes a part first, and says why at the next call
        view = view[os.write(fd, view) :]


def _replace(path: Path, data: bytes, *, sync: bool) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_all(fd, data)
        if sync:
            os.fdatasync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    if sync:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
