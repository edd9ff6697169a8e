"""Where a session is used from, held against where its person last proved who they are. Signals only score.

None proves anything: people move, browsers update. So one alone asks nothing of anybody; several at once do.
"""

from __future__ import annotations

import re

from rempart.people.model import Origin

from .model import Session

THRESHOLD = 4
_NETWORK, _PROGRAM, _VERSION, _LOCALE = 2, 3, 1, 1
_NUMBERS = re.compile(r"[0-9][0-9._]*")


def signals(session: Session, origin: Origin) -> dict[str, int]:
    """What changed, each with its weight; the session is doubted from `THRESHOLD` in sum."""
    found = {}
    if origin.network != session.network:
        found["network"] = _NETWORK
    if origin.user_agent != session.user_agent:
        same_program = _NUMBERS.sub("", origin.user_agent) == _NUMBERS.sub("", session.user_agent)
        found["user_agent"] = _VERSION if same_program else _PROGRAM
    if origin.locale != session.locale:
        found["locale"] = _LOCALE
    return found
