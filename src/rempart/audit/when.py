"""Moments as people write them: RFC 3339, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from rempart.kernel.errors import BadInput

_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_REMEDY = "write 2026-01-02T03:04:05Z, or 15m, 2h, 7d for how long ago"


def milliseconds(text: str, now: float) -> int:
    """`text` as milliseconds since the epoch; `now` in seconds. Raises BadInput `bad_time`.

    Without an offset a time is taken as UTC; a date alone is its first moment.
    """
    if ago := _AGO.fullmatch(text):
        return int((now - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadInput("bad_time", f"{text[:50]!r} is not a time", _REMEDY) from None
