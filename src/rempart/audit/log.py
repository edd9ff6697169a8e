"""The Merkle log in its storage: append, commit atomically together with how far each journal was read, prove.

Exactly once. `state` is the one record that counts: size, root, the signed checkpoint and the cursor of each journal,
replaced atomically after every tile that it covers is durable. A crash
before the rename leaves tiles that no state covers: opening removes them and the same records are read again from the
journals. So a checkpoint is never seen for leaves that could still change.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from rempart.kernel.errors import Integrity, NotFound, Unavailable

from .checkpoint import Checkpoint
from .merkle import EMPTY_ROOT, consistency_proof, fold_right, inclusion_proof, leaf_hash, perfect_root
from .personal import PersonalData
from .reader import Cursor
from .storage import LogStorage
from .tiles import ENTRIES, WIDTH, TileReader, deleted_event, encode_entries, kept_path, tile_path

_KEEP_PARTIAL = 60.0  # seconds that a reader of an older checkpoint has to finish
_PARTIAL = re.compile(r"(.+)\.p/(\d+)")


class CheckpointSigner(Protocol):
    """`name` is the log's origin. A `crypto.signing.NoteSigner`, or the ring of `log_keys`."""

    @property
    def name(self) -> str: ...

    def sign(self, text: str) -> str:
        """A note of `text`."""

    def verify(self, note: str) -> str:
        """Its text, if a key of this log signed it. Raises Integrity `bad_signature`."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    root: bytes
    checkpoint: str
    cursors: dict[str, Cursor] = {}


class MerkleLog:
    """One process opens it for writing. Not thread-safe. `checkpoint` is the signed note that covers `size` leaves."""

    def __init__(self, storage: LogStorage, signer: CheckpointSigner, personal: PersonalData | None = None) -> None:
        """`personal`: how personal data is encrypted; without, entries are kept as they are given.

        Raises Integrity when what is stored isn't what was committed: nothing may be added to such a log."""
        self.storage = storage
        self._signer = signer
        self._personal = personal
        self._tiles = TileReader(storage)
        self._superseded: deque[tuple[float, str]] = deque()
        self._written: list[str] = []  # by the commit under way: nothing of it counts before the state does
        state = _load_state(storage)
        if state is None:
            if storage.read("checkpoint") is not None:
                raise Integrity("log_state_missing", f"{storage} has a log and no state", "restore it from a backup")
            state = State(0, EMPTY_ROOT, signer.sign(Checkpoint(signer.name, 0, EMPTY_ROOT).encode()))
        self._state = state
        self._edge = self._load_edge()
        note = signer.sign(Checkpoint(signer.name, state.size, state.root).encode())  # by the keys of now
        self._state = State(state.size, state.root, note, state.cursors)
        self._save(self._state)  # also where nothing changed: from here on no other writer's commit succeeds
        self._remove_uncommitted()
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
    def origin(self) -> str:
        return self._signer.name

    @property
    def cursors(self) -> Mapping[str, Cursor]:
        return self._state.cursors

    def integrate(self, entries: Sequence[bytes], cursors: Mapping[str, Cursor]) -> None:
        """Append `entries` and remember `cursors`, both or neither; returns when durable and signed.

        Raises OSError or Unavailable when the storage refuses: then the log is as before, and the same call may be
        made again. Raises Integrity `log_commit_unknown` when it refused so late that only opening the log again tells.
        """
        edge = [list(level) for level in self._edge]
        self._written.clear()
        if self._personal is not None:
            entries = self._personal.seal(entries)
        try:
            state = self._commit(entries, edge, cursors)
        except (OSError, Unavailable):
            self._discard()
            raise
        old = self._state
        self._state, self._edge = state, edge
        if entries:
            self._unpublished = True
            self.signed_at = time.monotonic()
            with contextlib.suppress(OSError, Unavailable):  # committed all the same: `publish` is asked again
                self.publish()
                self._retire(old.size)

    def publish(self) -> None:
        """Write `checkpoint` for readers if the newest one isn't there yet. Raises OSError, Unavailable."""
        if self._unpublished:
            self.storage.replace("checkpoint", self.checkpoint.encode(), durable=False)  # opening makes it again
            self._unpublished = False

    def sign_again(self) -> None:
        """Sign the checkpoint as it is with the keys of now, after they changed. Raises as `integrate`."""
        note = self._signer.sign(Checkpoint(self.origin, self.size, self.root).encode())
        state = State(self.size, self.root, note, dict(self.cursors))
        self._save(state)
        self._state, self._unpublished = state, True
        self.publish()

    def close(self) -> None:
        self.storage.close()

    def _commit(self, entries: Sequence[bytes], edge: list[list[bytes]], cursors: Mapping[str, Cursor]) -> State:
        size, note = self.size, self.checkpoint
        if entries:
            files: list[tuple[str, bytes]] = []
            size = self._lay_out(entries, edge, files)
            self._written = [name for name, _ in files]
            self.storage.write(files)
        root = _edge_root(edge) if size else EMPTY_ROOT
        if entries:
            note = self._signer.sign(Checkpoint(self._signer.name, size, root).encode())
        state = State(size, root, note, dict(cursors))
        self._save(state)
        return state

    def _discard(self) -> None:
        """Remove what a failed commit wrote: the next one may put the journals' records in another order."""
        try:
            unchanged = _load_state(self.storage) == self._state
            if unchanged:
                self.storage.delete(self._written)
        except (OSError, Unavailable):
            unchanged = False
        if not unchanged:
            raise Integrity(
                "log_commit_unknown", "the last commit may or may not have been stored", "start the sequencer again"
            ) from None

    # -- reading: all of these raise Integrity `log_damaged` ---------------------------------------------------------

    def leaf(self, index: int) -> bytes:
        """The bytes that are proved: with personal data encrypted. Raises NotFound `event_deleted`."""
        found = self.bundle(index // WIDTH)[index % WIDTH]
        if found is None:
            raise NotFound("event_deleted", "retention deleted this event; its hash is in the tree", "see its export")
        return found

    def bundle(self, number: int) -> Sequence[bytes | None]:
        """The leaves of one bundle; None for those that retention deleted."""
        return self._tiles.entries(self.size, number)

    def entry(self, index: int) -> bytes:
        """The event as it was recorded, but for what was erased; of a deleted one only that it was."""
        return self.opened(index, self.bundle(index // WIDTH)[index % WIDTH])

    def entries(self, start: int, end: int) -> list[bytes]:
        """At least one and at most one bundle of the events from `start`, before `end`, as `entry` gives them."""
        return [self.opened(start + offset, one) for offset, one in enumerate(self.leaves(start, end))]

    def leaves(self, start: int, end: int) -> Sequence[bytes | None]:
        """The same as they are proved; None for those that retention deleted."""
        bundle = start // WIDTH
        return self.bundle(bundle)[start - bundle * WIDTH : end - bundle * WIDTH]

    def opened(self, index: int, leaf: bytes | None) -> bytes:
        if leaf is None:
            return deleted_event(index)
        return leaf if self._personal is None else self._personal.open(leaf)

    def prune(self, number: int, kept: bytes) -> None:
        """Delete the full bundle `number` but for `kept` (`tiles.encode_kept`); again is no harm.

        Raises as `integrate`.
        """
        self.storage.replace(kept_path(number), kept)
        self.storage.delete([tile_path(ENTRIES, number)])
        self._tiles.forget_bundles()

    def tile(self, level: int | str, number: int, width: int) -> bytes | None:
        """As c2sp.org/tlog-tiles serves it, also where a longer one has replaced it; None if there is none."""
        return self._tiles.tile(self.size, level, number, width)

    def prove_inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """In the log as it was at `size` events; by default as it is."""
        size = self.size if size is None else size
        return inclusion_proof(lambda level, at: self._tiles.node(size, level, at), index, size)

    def prove_consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """From `old` to `size` events; by default to all."""
        size = self.size if size is None else size
        return consistency_proof(lambda level, at: self._tiles.node(size, level, at), old, size)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _lay_out(self, entries: Sequence[bytes], edge: list[list[bytes]], files: list[tuple[str, bytes]]) -> int:
        """Add every tile that `entries` change to `files`; `edge` becomes the longer tree's. Returns its size."""
        size = self.size
        bundle = self._tiles.entries(size, size // WIDTH) if size % WIDTH else []
        pending = [entry for entry in bundle if entry is not None]  # a partial bundle is never pruned
        position = 0
        while position < len(entries):
            taken = entries[position : position + WIDTH - len(pending)]
            position += len(taken)
            pending.extend(taken)
            _append(edge, 0, [leaf_hash(entry) for entry in taken], size >> 8, files)
            size += len(taken)
            files.append((tile_path(ENTRIES, (size - 1) // WIDTH, len(pending)), encode_entries(pending)))
            if len(pending) == WIDTH:
                pending = []
        committed = set(_partial_tiles(self.size))
        for level, hashes in enumerate(edge):
            path = tile_path(level, size >> 8 * (level + 1), len(hashes))
            if hashes and path not in committed:  # what is committed is never written again: a crash could tear it
                files.append((path, b"".join(hashes)))
        return size

    def _save(self, state: State) -> None:
        body = msgspec.json.encode(state)
        self.storage.save_state(body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n")

    def _retire(self, old_size: int) -> None:
        """Remove what the partial tiles of checkpoints older than a minute held: longer tiles hold it too."""
        now = time.monotonic()
        self._superseded.extend((now, name) for name in _partial_tiles(old_size))
        current = set(_partial_tiles(self.size))
        while self._superseded and self._superseded[0][0] < now - _KEEP_PARTIAL:
            _, name = self._superseded.popleft()
            if name not in current:
                self.storage.delete([name])

    def _load_edge(self) -> list[list[bytes]]:
        """The partial tiles on the right edge, checked against the committed root and its signature."""
        size = self.size
        text = self._signer.verify(self.checkpoint)
        if Checkpoint.decode(text) != Checkpoint(self._signer.name, size, self.root):
            raise Integrity("log_state_damaged", "the log's state contradicts its own checkpoint")
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
                f"the tiles of {self.storage} don't give the committed root",
                "run `rempart audit verify`",
            )
        if size:
            last = (size - 1) // WIDTH
            entries = self._tiles.entries(size, last)
            hashes = self._tiles.hashes(size, 0, last)
            if any(entry is not None and leaf_hash(entry) != leaf for entry, leaf in zip(entries, hashes, strict=True)):
                raise Integrity("log_damaged", f"{tile_path(ENTRIES, last)} is not what was committed")
        return edge

    def _remove_uncommitted(self) -> None:
        """Remove partial tiles other than the committed ones, and full tiles past them."""
        committed = set(_partial_tiles(self.size))
        names = list(self.storage.names("tile/"))
        self.storage.delete(name for name in names if name not in committed and not self._is_committed_full(name))

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
    edge: list[list[bytes]], level: int, hashes: Sequence[bytes], number: int, files: list[tuple[str, bytes]]
) -> None:
    """Add to tile `number` of `level`, which they may fill but not overfill; a full one adds its root above."""
    if level == len(edge):
        edge.append([])
    row = edge[level]
    row.extend(hashes)
    if len(row) == WIDTH:
        files.append((tile_path(level, number), b"".join(row)))
        root = perfect_root(row)
        edge[level] = []
        _append(edge, level + 1, [root], number >> 8, files)


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


def _load_state(storage: LogStorage) -> State | None:
    raw = storage.load_state()
    if raw is None:
        return None
    body, _, checksum = raw.rstrip(b"\n").rpartition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise Integrity("log_state_damaged", f"the state of {storage} was changed", "restore it from a backup")
    return msgspec.json.decode(body, type=State)
