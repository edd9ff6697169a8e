"""The record as an auditor reads it at the gateway: whether what an attack did can be found there."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from rempart.kernel.clock import rfc3339

from .model import Trace

if TYPE_CHECKING:
    from .scene import Scene

_PAGE = 1000
_MAX_PAGES = 40


@dataclass
class Record:
    """Events since `since` (seconds since the epoch), newest first. `read` asks again."""

    scene: Scene
    since: float
    events: list[dict[str, Any]] = field(default_factory=list)

    def read(self, types: Sequence[str] = ()) -> None:
        self.events = []
        for kind in types or ("",):
            before: int | None = None
            for _ in range(_MAX_PAGES):
                query = {"since": rfc3339(self.since - 1), "limit": str(_PAGE)}
                query |= {"type": kind} if kind else {}
                query |= {"before": str(before)} if before is not None else {}
                reply = self.scene.get(f"/logs?{urlencode(query)}", self.scene.session("audit"))
                if reply.status != 200 or not isinstance(reply.json, dict):
                    return
                self.events.extend(reply.json["events"])
                before = reply.json.get("next")
                if before is None:
                    break

    def by_id(self, id: str) -> dict[str, Any] | None:
        """By the event's own id, its decision's or its request's."""
        for event in self.events:
            if id in (event.get("id"), event.get("request_id")) or id == (event.get("details") or {}).get("decision"):
                return event
        return None

    def by_trace(self, trace: Trace, start: float, end: float, sources: frozenset[str]) -> dict[str, Any] | None:
        """The first of its kind between `start` and `end`, with the trace's tolerance on either side.

        One from an address of the attack's own comes before any other: alike refusals are recorded once for all.
        """
        found = [
            event
            for event in self.events[::-1]
            if event.get("type") in trace.types
            and start - trace.around <= float(event.get("at", 0)) / 1000 <= end + 1 + trace.around
            and trace.contains in json.dumps(event)
        ]
        own = [event for event in found if event.get("ip") in sources]
        return next(iter(own or found), None)


def find(scene: Scene, needle: str, types: Sequence[str] = (), *, within: float = 4.0) -> list[str]:
    """The JSON texts of the events that have `needle` in them; waits up to `within` seconds for a first one."""
    deadline = time.monotonic() + within
    record = Record(scene, time.time() - 120)
    while True:
        record.read(types)
        found = [text for text in map(json.dumps, record.events) if needle in text]
        if found or time.monotonic() >= deadline:
            return found
        time.sleep(0.3)
