"""Features of how a principal uses the API, from decisions: one row for each principal and five minutes of its use.

A person's requests are counted where they come in (the gateway), a workload's where they arrive (the callee's sidecar),
so that nothing counts twice. State: the windows that are still open, at most MAX_OPEN of them, and for MAX_PRINCIPALS
principals which kinds of path and which services they ever used, and at what hours.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from rempart.detection.matching import Own
from rempart.detection.places import network
from rempart.kernel.event import EventType

from .model import Feature, Row, make_row
from .remembered import Remembered, see
from .time_features import CLOCK, clock, count_hour, hour_index, surprise

WINDOW = 300.0
GRACE = 30.0  # seconds of the log's clock that a window waits for what comes late
LEAST_REQUESTS = 3  # in a window: of less there is nothing to say
MAX_OPEN = 4096
MAX_PRINCIPALS = 4096
_PATHS, _OBJECTS, _SERVICES = 128, 512, 32
_WRITING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_MOST = math.log1p(100_000)

FEATURES = (
    *CLOCK,
    Feature(
        "own_hour", "bits of surprise at the hour, by the principal's own windows", 0, 8, "this hour for this principal"
    ),
    Feature("requests", "log(1 + requests in the window)", 0, _MOST, "the number of requests"),
    Feature("peak", "share of the requests that lie in the busiest ten seconds", 0, 1, "requests in one burst"),
    Feature("objects", "log(1 + distinct paths as asked)", 0, math.log1p(_OBJECTS), "different objects"),
    Feature(
        "paths",
        "log(1 + distinct kinds of path: parts with digits count as one)",
        0,
        math.log1p(_PATHS),
        "kinds of path",
    ),
    Feature(
        "new_paths",
        "share of requests for a kind of path that the principal first used in this window",
        0,
        1,
        "paths it never used",
    ),
    Feature(
        "new_services",
        "share of requests to services that the principal first used in this window",
        0,
        1,
        "services it never used",
    ),
    Feature("denied", "share of requests that were denied", 0, 1, "refused requests"),
    Feature("writing", "share of POST, PUT, PATCH, DELETE", 0, 1, "requests that change something"),
    Feature("networks", "distinct networks in the window", 0, 16, "networks"),
)


class _Window(msgspec.Struct, array_like=True):
    begin: float
    id: str = ""
    last: float = 0.0
    requests: int = 0
    denied: int = 0
    writing: int = 0
    new_paths: int = 0
    new_services: int = 0
    tens: list[int] = msgspec.field(default_factory=lambda: [0] * int(WINDOW / 10))
    objects: dict[str, None] = {}
    paths: dict[str, None] = {}
    networks: dict[str, None] = {}


class _Principal(msgspec.Struct, array_like=True):
    hours: list[float] = msgspec.field(default_factory=lambda: [0.0] * 24)
    paths: dict[str, float] = {}  # kind of path → begin of the window in which it was first used
    services: dict[str, float] = {}


class ApiFeatures:
    features = FEATURES

    def __init__(self) -> None:
        self.principals: Remembered[_Principal] = Remembered(MAX_PRINCIPALS, _Principal)
        self._open: dict[int, dict[str, _Window]] = {}
        self._count = 0
        self.dropped = 0  # windows that had no room

    def take(self, own: Own, kind: str, at: float, now: float) -> list[Row]:
        """`now` is the log's clock: it closes windows."""
        rows = self._close(now) if self._open else []
        if kind == EventType.DECISION and (principal := _principal(own)):
            number = int(at // WINDOW)
            if (number + 1) * WINDOW + GRACE > now:
                self._count_request(own, principal, number, at)
        return rows

    def _count_request(self, own: Own, principal: str, number: int, at: float) -> None:
        windows = self._open.setdefault(number, {})
        window = windows.get(principal)
        if window is None:
            if self._count >= MAX_OPEN:
                self.dropped += 1
                return
            self._count += 1
            window = windows[principal] = _Window(number * WINDOW)
        window.requests += 1
        window.id, window.last = str(own["id"]), max(window.last, at)
        window.denied += own.get("success") is not True
        window.writing += own.get("method") in _WRITING
        window.tens[min(int((at - window.begin) // 10), len(window.tens) - 1)] += 1
        if (where := network(own)) and len(window.networks) < 16:
            window.networks[where] = None
        self._count_path(own, window, principal)

    def _count_path(self, own: Own, window: _Window, principal: str) -> None:
        path, service = str(own.get("path") or "")[:256], str(own.get("service") or "")[:64]
        shape = f"{service} {kind_of_path(path)}"
        if len(window.objects) < _OBJECTS:
            window.objects[path] = None
        if len(window.paths) < _PATHS:
            window.paths[shape] = None
        known = self.principals.of(principal)
        first = see(known.paths, shape, window.begin, _PATHS)
        window.new_paths += first is None or first >= window.begin
        first = see(known.services, service, window.begin, _SERVICES)
        window.new_services += first is None or first >= window.begin

    def _close(self, now: float) -> list[Row]:
        rows = []
        for number in [one for one in self._open if (one + 1) * WINDOW + GRACE <= now]:
            for principal, window in self._open.pop(number).items():
                self._count -= 1
                if window.requests >= LEAST_REQUESTS:
                    rows.append(self._row(principal, window))
        return rows

    def _row(self, principal: str, window: _Window) -> Row:
        known = self.principals.of(principal)
        middle, total = window.begin + WINDOW / 2, window.requests
        hour = hour_index(middle)
        values = clock(middle) | {
            "own_hour": surprise(known.hours, hour),
            "requests": math.log1p(total),
            "peak": max(window.tens) / total,
            "objects": math.log1p(len(window.objects)),
            "paths": math.log1p(len(window.paths)),
            "new_paths": window.new_paths / total,
            "new_services": window.new_services / total,
            "denied": window.denied / total,
            "writing": window.writing / total,
            "networks": float(len(window.networks)),
        }
        count_hour(known.hours, hour)
        return make_row(FEATURES, window.last, window.id, principal, values)

    def forget(self, principal: str) -> None:
        self.principals.pop(principal)
        for windows in self._open.values():
            self._count -= windows.pop(principal, None) is not None

    def snapshot(self) -> Any:
        return [self.principals.snapshot(), [[n, list(windows.items())] for n, windows in self._open.items()]]

    def restore(self, content: Any) -> None:
        self.principals.restore((key, msgspec.convert(one, _Principal)) for key, one in content[0])
        self._open = {
            int(number): {str(key): msgspec.convert(one, _Window) for key, one in windows}
            for number, windows in content[1]
        }
        self._count = sum(map(len, self._open.values()))


def _principal(own: Own) -> str:
    """Empty for what isn't counted here: requests without a proven caller, and a person's second enforcement point."""
    person, workload = own.get("person"), own.get("workload")
    if own.get("pep") == "gateway":
        return f"person:{person}" if type(person) is str and person else ""
    if person or type(workload) is not str or not workload or workload.endswith("/rempart/gateway"):
        return ""
    return f"workload:{workload}"


def kind_of_path(path: str) -> str:
    """Parts with digits stand for any object: `/users/usr_7/wallet` is `/users/*/wallet`. At most eight parts."""
    parts = path.partition("?")[0].split("/")[:9]
    return "/".join("*" if any(map(str.isdigit, part)) or len(part) > 32 else part for part in parts)
