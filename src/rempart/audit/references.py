"""An event for who may learn what happened, and to whom only by asking us: persons by their ids alone.

Less than the log shows to a stranger (`audit.personal`): no sealed boxes, and no address of who is not named either.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rempart.kernel.errors import Integrity
from rempart.protocols.event_catalogue import PERSONAL

_decode = msgspec.json.Decoder().decode
_PARTS = ("before", "after", "details")


def references(entry: bytes) -> bytes:
    """Raises Integrity `bad_event` for what is no event: nothing is passed on unread."""
    try:
        document = _decode(entry)
        own = document["unmapped"]["rempart"]
        source = own["source"]
        own.pop("sealed", None)
        own.pop("ip", None)
        for name in _PARTS:
            if name in own:
                own[name] = _stripped(own[name])
        if "src_endpoint" in document:
            document["src_endpoint"] = {"svc_name": source}
        return msgspec.json.encode(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise Integrity("bad_event", "an event can't be read, so nothing can be taken out of it") from None


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(inside) for name, inside in value.items() if name not in PERSONAL}
    return [_stripped(one) for one in value] if isinstance(value, list) else value
