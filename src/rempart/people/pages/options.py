"""What the browser takes over from a room, made fit for a page."""

from __future__ import annotations

import base64
import json
from typing import Any


def as_attribute(options: dict[str, Any]) -> str:
    """WebAuthn options as JSON, for an attribute that the script reads: so that it makes no request of its own."""
    return json.dumps(options, separators=(",", ":"))


def as_picture(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def in_groups(secret: str) -> str:
    """By fours, for typing."""
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
