"""Reading corpora of stolen passwords: one file of `SHA1:COUNT` lines, or a directory of ranges.

A range is a file named by the first five hexadecimal digits (with or without `.txt`) of 35-digit `REST:COUNT` lines.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from pathlib import Path

from rempart.kernel.errors import BadInput

_LINE = re.compile(rb"([0-9A-Fa-f]{35}|[0-9A-Fa-f]{40})(?::(\d{1,12}))?\s*")
_RANGE = re.compile(r"[0-9A-Fa-f]{5}")


def hashes(corpus: Path, least_count: int = 1) -> Iterator[bytes]:
    """SHA-1s of passwords that were seen at least so often. Raises BadInput `bad_breach_corpus` naming the line."""
    if not corpus.is_dir():
        yield from _of_file(corpus, b"", least_count)
        return
    for path in sorted(corpus.iterdir()):
        name = path.name.removesuffix(".txt")
        if _RANGE.fullmatch(name):
            yield from _of_file(path, name.encode(), least_count)


def _of_file(path: Path, prefix: bytes, least_count: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                found = _LINE.fullmatch(line)
                if found and len(prefix) + len(found[1]) == 40:
                    if int(found[2] or 1) >= least_count:
                        yield binascii.unhexlify(prefix + found[1])
                elif line.strip():
                    raise BadInput(
                        "bad_breach_corpus",
                        f"{path.name}, line {number} is not SHA1:COUNT",
                        "give a file of such lines, or a directory of ranges",
                    )
    except OSError as error:
        raise BadInput("bad_breach_corpus", f"{path.name} can't be read: {error.strerror}") from None
