"""A log as files: c2sp.org/tlog-tiles.

```
checkpoint                      a signed note: origin, size, root
tile/LEVEL/N[.p/W]              W ≤ 256 hashes of 32 bytes; entry i of level L is the root over 256^L leaves
tile/entries/N[.p/W]            the same leaves as bytes, each after its length (16 bits, big-endian)
```
N is written in groups of three digits, all but the last marked with x: 1234067 is `x001/x234/067`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from rempart.kernel.errors import Integrity

from .merkle import perfect_root
from .storage import LogStorage

WIDTH = 256
HASH_BYTES = 32
ENTRIES = "entries"


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Relative to the log's directory."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


# A tile's path as it is asked for; groups: level, number, width.
TILE = re.compile(r"/tile/([0-9]|entries)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


def place(tile: re.Match[str]) -> tuple[int | str, int, int]:
    """Level, number and width of a match of TILE."""
    level = tile[1] if tile[1] == ENTRIES else int(tile[1])
    return level, int(tile[2].replace("x", "").replace("/", "")), int(tile[3] or WIDTH)


def encode_entries(entries: Iterable[bytes]) -> bytes:
    parts = []
    for entry in entries:
        parts.append(len(entry).to_bytes(2, "big"))
        parts.append(entry)
    return b"".join(parts)


def decode_entries(bundle: bytes) -> list[bytes]:
    """Raises ValueError for a bundle that ends within an entry."""
    entries = []
    at = 0
    while at < len(bundle):
        try:
            (length,) = struct.unpack_from(">H", bundle, at)
        except struct.error:
            raise ValueError("the bundle ends within a length") from None
        at += 2
        if at + length > len(bundle):
            raise ValueError("the bundle ends within an entry")
        entries.append(bundle[at : at + length])
        at += length
    return entries


def kept_path(number: int) -> str:
    """What retention left of a bundle; that the file exists says that the rest was deleted."""
    return tile_path("kept", number).removeprefix("tile/")


def encode_kept(entries: Mapping[int, bytes]) -> bytes:
    """Entries by their place in the bundle: the place (8 bits), the length (16 bits), the bytes."""
    return b"".join(bytes([at]) + len(entry).to_bytes(2, "big") + entry for at, entry in sorted(entries.items()))


def decode_kept(raw: bytes) -> list[bytes | None]:
    """WIDTH entries, None for a deleted one. Raises ValueError."""
    entries: list[bytes | None] = [None] * WIDTH
    at = 0
    while at < len(raw):
        end = at + 3 + int.from_bytes(raw[at + 1 : at + 3], "big")
        if at + 3 > len(raw) or end > len(raw):
            raise ValueError("ends within an entry")
        entries[raw[at]] = raw[at + 3 : end]
        at = end
    return entries


def deleted_event(index: int) -> bytes:
    """What is shown in the place of an event that retention deleted."""
    own = b'{"id":"deleted-%d","type":"deleted","source":"","at":0,"reason":"deleted by retention"}' % index
    return b'{"metadata":{"uid":"deleted-%d"},"class_uid":0,"unmapped":{"rempart":%s}}' % (index, own)


class TileReader:
    """Reads tiles of a log that had at least `size` leaves; a partial tile is also looked for in longer ones."""

    def __init__(self, storage: LogStorage) -> None:
        self._storage = storage
        self._tile = lru_cache(maxsize=512)(self._read_full)
        self._bundle = lru_cache(maxsize=16)(self._read_full_bundle)

    def node(self, size: int, level: int, index: int) -> bytes:
        """The hash of the complete subtree `index` at `level` in a tree of `size` leaves. Raises Integrity."""
        tile_level, height = divmod(level, 8)
        first = index << height
        hashes = self.hashes(size, tile_level, first // WIDTH)
        at = first % WIDTH
        return perfect_root(hashes[at : at + (1 << height)])

    def hashes(self, size: int, level: int, number: int) -> Sequence[bytes]:
        """The hashes that tile holds in a tree of `size` leaves."""
        width = min(WIDTH, (size >> 8 * level) - number * WIDTH)
        if width == WIDTH:
            return self._tile(level, number)
        raw = self._read(level, number, width)[: width * HASH_BYTES]
        return _split_hashes(raw, width, tile_path(level, number, width))

    def entries(self, size: int, number: int) -> Sequence[bytes | None]:
        """The entries of bundle `number` in a tree of `size` leaves, None for one that retention deleted.

        Raises Integrity `log_damaged`.
        """
        width = min(WIDTH, size - number * WIDTH)
        if width == WIDTH:
            return self._bundle(number)
        return self._decode(self._read(ENTRIES, number, width), number, width)[:width]

    def forget_bundles(self) -> None:
        """After one was pruned."""
        self._bundle.cache_clear()

    def tile(self, size: int, level: int | str, number: int, width: int) -> bytes | None:
        """The first `width` of a tile, as a tree of `size` leaves has it; None when it has not so many."""
        depth = 0 if level == ENTRIES else int(level)
        if not 0 < width <= WIDTH or number * WIDTH + width > size >> 8 * depth:
            return None
        if level == ENTRIES and self._storage.read(kept_path(number)) is not None:
            return None
        if level == ENTRIES:
            return encode_entries(self._decode(self._read(level, number, width), number, width)[:width])
        return self._read(level, number, width)[: width * HASH_BYTES]

    def _read_full(self, level: int, number: int) -> Sequence[bytes]:
        return _split_hashes(self._read(level, number, WIDTH), WIDTH, tile_path(level, number))

    def _read_full_bundle(self, number: int) -> Sequence[bytes | None]:
        kept = self._storage.read(kept_path(number))
        if kept is not None:
            try:
                return decode_kept(kept)
            except ValueError as error:
                raise _damaged(f"{kept_path(number)} {error}") from None
        return self._decode(self._read(ENTRIES, number, WIDTH), number, WIDTH)

    def _decode(self, raw: bytes, number: int, width: int) -> list[bytes]:
        path = tile_path(ENTRIES, number, width)
        try:
            entries = decode_entries(raw)
        except ValueError as error:
            raise _damaged(f"{path}: {error}") from None
        if len(entries) < width:
            raise _damaged(f"{path} has {len(entries)} entries")
        return entries

    def _read(self, level: int | str, number: int, width: int) -> bytes:
        """The narrowest tile that has `width`: the log removes partial tiles once there are longer ones."""
        while True:
            raw = self._storage.read(tile_path(level, number, width))
            if raw is not None:
                return raw
            longer = [w for w in self._widths(level, number) if w > width]
            if longer:
                width = min(longer)
            elif width < WIDTH:
                width = WIDTH
            else:
                raise _damaged(f"{tile_path(level, number)} is missing")

    def _widths(self, level: int | str, number: int) -> list[int]:
        names = self._storage.names(tile_path(level, number) + ".p/")
        return [int(name) for name in (path.rpartition("/")[2] for path in names) if name.isdigit()]


def _split_hashes(raw: bytes, width: int, path: str) -> Sequence[bytes]:
    if len(raw) != width * HASH_BYTES:
        raise _damaged(f"{path} has {len(raw)} bytes instead of {width * HASH_BYTES}")
    return [raw[i : i + HASH_BYTES] for i in range(0, len(raw), HASH_BYTES)]


def _damaged(what: str) -> Integrity:
    return Integrity("log_damaged", f"the log is damaged: {what}", "see `rempart audit verify`, restore from a backup")
