"""What whoever follows the log does with every event first: read what Rempart says of it, and know it when it comes
again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rempart.kernel.errors import BadInput

from .matching import Own

RECENT = 16_384


class _Body(msgspec.Struct, frozen=True, gc=False):
    rempart: dict[str, Any]


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    unmapped: _Body


_decode = msgspec.json.Decoder(_Envelope).decode


def own_of(payload: bytes) -> Own:
    """What stands under `unmapped.rempart` of an event's OCSF JSON. Raises BadInput `bad_event`."""
    try:
        return _decode(payload).unmapped.rempart
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadInput("bad_event", "this is no event of ours") from None


class Recent:
    """The newest RECENT events, by who told them and their id."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}

    def again(self, own: Own, source: str, id: str) -> bool:
        """Whether it was told before; from now on it was."""
        known = f"{source}\x1f{own.get('service')}\x1f{id}"
        if known in self._known:
            return True
        self._known[known] = None
        if len(self._known) > RECENT:
            del self._known[next(iter(self._known))]
        return False

    def snapshot(self) -> list[str]:
        return list(self._known)

    def restore(self, content: Iterable[str]) -> None:
        self._known = dict.fromkeys(content)
