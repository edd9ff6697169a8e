"""Lists of common and stolen passwords that work offline: a Bloom filter over SHA-1, in one file, read by mmap.

Keyed by the SHA-1 of the password in UTF-8, as breach corpora give it. With one wrong yes in `1 / odds` a list takes
1.44 · log2(odds) bits for each entry: 10 000 to one 19 bits, 1000 to one 14.4 (B. H. Bloom, Comm. ACM 13, 1970); the
probes come by double hashing from 128 bits of the hash (Kirsch and Mitzenmacher, ESA 2006). There is never a wrong no.

File: 16 bytes of magic, then big-endian probes (4), bits (8), entries (8), zeros up to 64 bytes, then the bits.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rempart.crypto.passwords import normalise
from rempart.kernel.errors import BadInput, Unavailable

_MAGIC = b"rempart-pwlist-1"
_HEADER = struct.Struct(">16sIQQ28x")
_MOST_BITS = 1 << 37  # 16 GiB
BREACHED = "breached-passwords.bin"  # in the data directory of people
COMMON = Path(__file__).with_name("common_passwords.bin")


@dataclass(frozen=True)
class PasswordLists:
    """Implements `password_rules.KnownPasswords`. Files are opened at each question, so a new one counts at once; an
    absent one is as an empty one. Few ask: those who choose a password.
    """

    paths: Sequence[Path]

    def has(self, password: str) -> bool:
        """Also as it would be without capitals. Raises Unavailable `password_list_unreadable`."""
        text = normalise(password)
        hashes = {sha1(text), sha1(text.lower())}
        return any(_any_of(hashes, path) for path in self.paths)


def sha1(text: str) -> bytes:
    return hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False).digest()


def about(path: Path) -> tuple[int, float]:
    """How many entries a list has, and how often it says a wrong yes. Raises Unavailable."""
    with path.open("rb") as file:
        probes, bits, entries = _header(file.read(_HEADER.size), path)
    return entries, (1 - math.exp(-probes * entries / bits)) ** probes


def write_list(path: Path, hashes: Iterable[bytes], count: int, odds: int) -> int:
    """Make `path` of at most `count` SHA-1s, durably and at once; how many there were.

    `odds`: one wrong yes in so many. Raises BadInput `bad_password_list` when there are more, or too many for a file.
    """
    bits = max(64, math.ceil(max(1, count) * math.log(odds) / math.log(2) ** 2))
    probes = max(1, round(bits / max(1, count) * math.log(2)))
    if bits > _MOST_BITS or odds < 2 or probes > 64:
        raise BadInput("bad_password_list", "the list would be too large", "choose smaller odds or a least count")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w+b") as file:
            file.truncate(_HEADER.size + (bits + 7) // 8)
            entries = 0
            with mmap.mmap(file.fileno(), 0) as view:
                for digest in hashes:
                    entries += 1
                    if entries > count:
                        raise BadInput("bad_password_list", "the list changed while it was read", "try again")
                    for byte, mask in _places(digest, probes, bits):
                        view[byte] |= mask
                view[: _HEADER.size] = _HEADER.pack(_MAGIC, probes, bits, entries)
                view.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return entries


def _any_of(hashes: Iterable[bytes], path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            probes, bits, _ = _header(view[: _HEADER.size], path)
            if len(view) != _HEADER.size + (bits + 7) // 8:
                raise _unreadable(path)
            return any(all(view[byte] & mask for byte, mask in _places(digest, probes, bits)) for digest in hashes)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        raise _unreadable(path) from None


def _header(head: bytes, path: Path) -> tuple[int, int, int]:
    if len(head) != _HEADER.size:
        raise _unreadable(path)
    magic, probes, bits, entries = _HEADER.unpack(head)
    if magic != _MAGIC or not 1 <= probes <= 64 or not 64 <= bits <= _MOST_BITS:
        raise _unreadable(path)
    return probes, bits, entries


def _places(digest: bytes, probes: int, bits: int) -> Iterable[tuple[int, int]]:
    first, second = struct.unpack_from(">QQ", digest)
    second |= 1
    for probe in range(probes):
        bit = (first + probe * second) % bits
        yield _HEADER.size + (bit >> 3), 1 << (bit & 7)


def _unreadable(path: Path) -> Unavailable:
    return Unavailable(
        "password_list_unreadable",
        f"the password list {path.name} can't be read",
        "make it again with `rempart user breached-list import`, or remove it",
    )
