from __future__ import annotations

import os
from pathlib import Path

import pytest

from rempart.kernel.durable_file import replace_file


def test_the_whole_content_replaces_the_old_with_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    before = os.umask(0o077)
    try:
        replace_file(path, b"new" * 100_000, 0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new" * 100_000
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_what_fails_leaves_the_old_content_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    path.write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_a_link_put_in_its_way_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / ".kept.new").symlink_to(other)
    with pytest.raises(OSError, match="symbolic"):
        replace_file(tmp_path / "kept", b"new")
    assert other.read_text() == "mine"
