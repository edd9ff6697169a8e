"""Changes to a text, given as places in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """Bytes `start` to `end` become `new`; where both are the same it is put in there."""

    start: int
    end: int
    new: bytes


def applied(text: str, edits: Iterable[Edit]) -> str:
    """`text` with all of them; none may overlap another. Several at one place keep their order."""
    raw = text.encode()
    parts: list[bytes] = []
    done = 0
    for start, end, new in sorted(set(edits), key=lambda edit: (edit.start, edit.end)):
        if start < done:
            raise ValueError(f"edits overlap at byte {start}")
        parts += [raw[done:start], new]
        done = end
    return b"".join([*parts, raw[done:]]).decode()
