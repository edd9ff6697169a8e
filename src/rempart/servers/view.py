"""What a process that runs under a user of its own may see of the file system (root with CAP_SYS_ADMIN only).

Permissions are never widened. Where a directory on the way to a program is closed to others (a home of mode 0700, a
private temporary directory), the process gets an empty directory there, in which only what it needs is mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_CAP_SYS_ADMIN = 21


def can_confine() -> bool:
    """Are we root with the right to make mount namespaces?"""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _open_to_others(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXOTH)


def covers(trees: Iterable[Path], state: Path) -> list[tuple[str, list[str]]]:
    """For each outermost closed directory: what of it is mounted back. Paths are absolute and resolved.

    A tree whose own root is closed is mounted back child by child. The way to `state` must be open as well, though
    nothing of it is mounted back here.
    """
    found: dict[Path, list[str]] = {}
    for directory in reversed(state.parents):
        if directory.is_dir() and not _open_to_others(directory):
            found[directory] = []
            break
    for tree in sorted(set(trees)):
        closed = next((d for d in (*reversed(tree.parents), tree) if d.is_dir() and not _open_to_others(d)), None)
        if closed is None:
            continue
        kept = found.setdefault(closed, [])
        if not tree.is_dir() or _open_to_others(tree):
            kept.append(str(tree))
        else:
            kept.extend(sorted(str(child) for child in tree.iterdir() if child.exists()))
    return [(str(directory), _outermost(paths)) for directory, paths in found.items()]


def _outermost(paths: list[str]) -> list[str]:
    """Without what lies inside another one of them."""
    out: list[str] = []
    for path in sorted(set(paths)):
        if not out or not path.startswith(out[-1] + "/"):
            out.append(path)
    return out


def view(state: Path, sees: Iterable[tuple[str, bool]], covered: list[tuple[str, list[str]]]) -> dict[str, object]:
    """The `view` of a launch document; `sees` are absolute paths below `state`."""
    return {"state": str(state), "sees": [list(one) for one in sees], "covers": [list(one) for one in covered]}
