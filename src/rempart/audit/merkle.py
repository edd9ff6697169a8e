"""Merkle tree hashing and proofs of RFC 6962 section 2.1, over whatever can give the hash of a complete subtree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
NodeAt = Callable[[int, int], bytes]
"""(level, index) → hash of the complete subtree over leaves [index·2^level, (index+1)·2^level)."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2^k subtree hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


def fold_right(subtrees: Sequence[bytes]) -> bytes:
    """The root over complete subtrees of falling size, left to right."""
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node_hash(left, root)
    return root


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def range_root(node: NodeAt, start: int, end: int) -> bytes:
    """MTH(D[start:end]) for a range as the recursion of RFC 6962 makes them."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, start >> level)
    k = _split(size)
    return node_hash(range_root(node, start, start + k), range_root(node, start + k, end))


def inclusion_proof(node: NodeAt, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]), RFC 6962 section 2.1.1; lowest sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        k = _split(end - start)
        if index < start + k:
            path.append(range_root(node, start + k, end))
            end = start + k
        else:
            path.append(range_root(node, start, start + k))
            start += k
    return path[::-1]


def consistency_proof(node: NodeAt, old: int, size: int) -> list[bytes]:
    """PROOF(old, D[size]), RFC 6962 section 2.1.2; empty when `old` is 0 or `size`."""
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} never had {old} leaves")
    if old in (0, size):
        return []
    path = []
    start, end, whole = 0, size, True
    while old != end:
        k = _split(end - start)
        if old <= start + k:
            path.append(range_root(node, start + k, end))
            end = start + k
        else:
            path.append(range_root(node, start, start + k))
            start += k
            whole = False
    if not whole:
        path.append(range_root(node, start, end))
    return path[::-1]
