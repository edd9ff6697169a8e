"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell that starts us in the background has us, and what we start, ignore SIGINT, which tests send."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
