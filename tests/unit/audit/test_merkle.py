"""RFC 6962 hashing, by the vectors that Certificate Transparency's implementations share.

Source: certificate-transparency-go, merkletree tests (the same eight leaves as in the Trillian and tlog test suites).
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.audit import verifier
from rempart.audit.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    fold_right,
    inclusion_proof,
    leaf_hash,
    node_hash,
    perfect_root,
    range_root,
)

LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def nodes(leaves: list[bytes]):  # type: ignore[no-untyped-def]  # a NodeAt over these leaves
    hashes = [leaf_hash(leaf) for leaf in leaves]
    return lambda level, at: perfect_root(hashes[at << level : at + 1 << level])


def test_empty_tree() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    assert range_root(nodes(LEAVES), 0, size).hex() == ROOTS[size - 1]


def test_published_inclusion_proof() -> None:
    """Leaf 5 of 8: certificate-transparency-go's path vectors."""
    expected = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [part.hex() for part in inclusion_proof(nodes(LEAVES), 5, 8)] == expected


def test_published_consistency_proof() -> None:
    """6 to 8: certificate-transparency-go's proof vectors."""
    expected = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [part.hex() for part in consistency_proof(nodes(LEAVES), 6, 8)] == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_verifier_accepts_exactly_what_is_proved(size: int, data: st.DataObject) -> None:
    leaves = [bytes([n & 255, n >> 8]) for n in range(size)]
    node = nodes(leaves)
    root = range_root(node, 0, size)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(node, index, size)
    leaf = verifier.leaf_hash(leaves[index])
    assert verifier.root_from_inclusion(leaf, index, size, path) == root
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        forged = [*path[:at], bytes(32), *path[at + 1 :]]
        assert verifier.root_from_inclusion(leaf, index, size, forged) != root
        with pytest.raises(verifier.VerificationError):
            verifier.root_from_inclusion(leaf, index, size, path[:-1])
    with pytest.raises(verifier.VerificationError):
        verifier.root_from_inclusion(leaf, index, size, [*path, bytes(32)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.data())
def test_consistency_holds_for_a_log_that_grew_and_for_no_other(size: int, data: st.DataObject) -> None:
    old_size = data.draw(st.integers(0, size))
    node = nodes([bytes([n & 255, n >> 8]) for n in range(size)])
    new = verifier.Head(size, range_root(node, 0, size))
    old = verifier.Head(old_size, range_root(node, 0, old_size) if old_size else EMPTY_ROOT)
    path = consistency_proof(node, old_size, size)
    verifier.verify_consistency(old, new, path)
    if old_size > 0:
        with pytest.raises(verifier.VerificationError):
            verifier.verify_consistency(verifier.Head(old_size, bytes(32)), new, path)
        with pytest.raises(verifier.VerificationError):
            verifier.verify_consistency(new, verifier.Head(old_size - 1, old.root), path)


def test_fold_right_is_the_split_of_the_rfc() -> None:
    a, b, c = (leaf_hash(bytes([n])) for n in range(3))
    assert fold_right([node_hash(a, b), c]) == node_hash(node_hash(a, b), c)
