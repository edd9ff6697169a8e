"""Time of day and week as pairs on a circle: 23:59 lies beside 00:01. All times are UTC, as the record's."""

from __future__ import annotations

import math

from .model import Feature

DAY, WEEK = 86_400.0, 604_800.0
_THURSDAY = 3 * DAY  # 1970-01-01 was one; weeks begin on Monday

CLOCK = (
    Feature("hour_sin", "sine of the time of day (UTC) on a circle of 24 hours", -1, 1),
    Feature("hour_cos", "cosine of the time of day", -1, 1),
    Feature("week_sin", "sine of the time of the week, from Monday 00:00 UTC, on a circle of 7 days", -1, 1),
    Feature("week_cos", "cosine of the time of the week", -1, 1),
)


def clock(at: float) -> dict[str, float]:
    day, week = 2 * math.pi * (at % DAY) / DAY, 2 * math.pi * ((at + _THURSDAY) % WEEK) / WEEK
    return {
        "hour_sin": math.sin(day),
        "hour_cos": math.cos(day),
        "week_sin": math.sin(week),
        "week_cos": math.cos(week),
    }


def hour_index(at: float) -> int:
    """0 to 23; a time just before 1970 is rounded up to a whole day by `%`."""
    return int(at % DAY // 3600) % 24


def hour_of(sine: float, cosine: float) -> float:
    """Hours since midnight, 0 ≤ h < 24."""
    return (math.atan2(sine, cosine) / (2 * math.pi) * 24) % 24


def surprise(hours: list[float], hour: int) -> float:
    """Bits of surprise at an hour of the day, by a principal's own counts: neighbours count half, and two evenly spread
    observations stand for what isn't known yet."""
    total = sum(hours)
    near = hours[hour] + (hours[hour - 1] + hours[(hour + 1) % 24]) / 2
    return -math.log2((near + 2 * 2 / 24) / (2 * total + 2 * 2)) if total else _EVEN


_EVEN = math.log2(24)
_FADE = 0.98


def count_hour(hours: list[float], hour: int) -> None:
    """Older observations fade: some fifty weigh as much as all that were before."""
    for index in range(24):
        hours[index] *= _FADE
    hours[hour] += 1
