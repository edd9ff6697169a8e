"""Events from a file, as `rempart audit export` writes them: `rempart detect` and `rempart models` read these."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rempart.kernel.errors import BadInput


@contextlib.contextmanager
def event_lines(path: Path | None) -> Iterator[Iterable[bytes]]:
    """None or `-`: stdin. Raises BadInput `no_events`."""
    if path is None or str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput("no_events", f"{path} can't be read: {error.strerror}", "name a file of JSON lines") from None
