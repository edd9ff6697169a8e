"""Identifiers: unique, sortable by time of creation, meaningless to the reader."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def new_id(prefix: str) -> str:
    """`prefix_` and 26 characters: 48 bits of milliseconds, then 80 random bits (the ULID layout)."""
    pairs = _PAIRS
    at = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    return (  # written out: this runs for every decision and every event
        f"{prefix}_{pairs[at >> 40]}{pairs[at >> 30 & 1023]}{pairs[at >> 20 & 1023]}{pairs[at >> 10 & 1023]}"
        f"{pairs[at & 1023]}{pairs[chance >> 70]}{pairs[chance >> 60 & 1023]}{pairs[chance >> 50 & 1023]}"
        f"{pairs[chance >> 40 & 1023]}{pairs[chance >> 30 & 1023]}{pairs[chance >> 20 & 1023]}"
        f"{pairs[chance >> 10 & 1023]}{pairs[chance & 1023]}"
    )
