"""The record in order, for whoever follows it: what goes to other systems, is watched or shown as it comes.

`GET /entries/START?wait=SECONDS` → `{"start", "size", "ids": […], "events": […]}`: whole OCSF events from START on,
each with its leaf hash in the log. With nothing new it answers after at most `wait` seconds, with no events.
"""

from __future__ import annotations

import msgspec

from rempart.kernel.errors import BadInput

from .log import MerkleLog
from .merkle import leaf_hash

MAX_EVENTS = 2048  # in one page
MAX_BYTES = 4 << 20  # of one page, but for its last event
MAX_WAIT = 25.0  # seconds
DELETED = "deleted-"


class Page(msgspec.Struct, frozen=True):
    """`size` is the log's; `events` are those with the indexes start, start + 1, …; `ids` their leaf hashes (hex), or
    `deleted-INDEX` for what retention deleted before it was read."""

    start: int
    size: int
    ids: list[str]
    events: list[msgspec.Raw]


def read_page(log: MerkleLog, start: int) -> bytes:
    """A page as JSON. Raises Integrity `log_damaged`."""
    events: list[bytes] = []
    ids: list[str] = []
    size, taken = log.size, 0
    at = start
    while at < size and len(events) < MAX_EVENTS and taken < MAX_BYTES:
        for leaf in log.leaves(at, min(size, start + MAX_EVENTS)):
            ids.append(leaf_hash(leaf).hex() if leaf is not None else f"{DELETED}{at}")
            events.append(log.opened(at, leaf))
            taken += len(events[-1])
            at += 1
            if taken >= MAX_BYTES:
                break
    head = msgspec.json.encode({"start": start, "size": size, "ids": ids})
    return head[:-1] + b',"events":[' + b",".join(events) + b"]}"


def read_start(path: str, wait: str | None) -> tuple[int, float]:
    """START and SECONDS of a request for `path` (behind `/entries/`). Raises BadInput `bad_parameter`."""
    if not (path.isascii() and path.isdigit() and len(path) < 18):
        raise BadInput("bad_parameter", "START is no index in the log", "ask for /entries/0")
    if wait is None:
        return int(path), 0.0
    if not (wait.isascii() and wait.isdigit() and len(wait) < 4):
        raise BadInput("bad_parameter", "wait is no number of seconds", f"choose from 0 to {MAX_WAIT:g}")
    return int(path), min(float(wait), MAX_WAIT)
