"""Moments as people write them."""

from __future__ import annotations

import pytest

from rempart.audit.when import milliseconds
from rempart.kernel.errors import BadInput

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", NOW - 900),
        ("2h", NOW - 7200),
        ("1d", NOW - 86_400),
        ("30s", NOW - 30),
        ("1w", NOW - 604_800),
        ("2026-01-02T03:04:05Z", 1_767_323_045),
        ("2026-01-02T04:04:05+01:00", 1_767_323_045),
        ("2026-01-02T03:04:05", 1_767_323_045),
        ("2026-01-02", 1_767_312_000),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert milliseconds(text, NOW) == int(expected * 1000)


@pytest.mark.parametrize("text", ["", "never", "15", "m", "-5m", "1.5h", "5y", "2026-13-01", "9" * 400 + "s", "١٥m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        milliseconds(text, NOW)
