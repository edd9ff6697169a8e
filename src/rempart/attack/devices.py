"""A browser's session that is bound to a key of its device, in the hands of who copied its cookie (W3C DBSC)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, not_tried
from .pages import signed_in
from .registered import Pen, Registered, having
from .site import Site

_BIND, _REFRESH = "/auth/session/bind", "/auth/session/refresh"
_CHALLENGE = re.compile(r'challenge="([A-Za-z0-9_-]+)"')
_HEADER = {"alg": "ES256", "typ": "dbsc+jwt"}


def attacks() -> Iterator[Attack]:
    yield Attack(
        "S-session-device-key",
        Actor.STOLEN_TOKEN,
        "A session that is bound to somebody's device",
        "a copy of its cookie: a key of the thief's registered, then proved",
        "another key is refused, and a wrong proof ends the session",
        having(_another_key),
        Alert.LOGIN_FAILURES,
    )


def _another_key(made: Registered) -> Outcome:
    """Its owner's browser registers a key; who copied the cookie has the challenge at best, and never the key."""
    owner, pen, thief = made.browser(), Pen(), Pen()
    found = _CHALLENGE.search(owner.offered)
    if found is None:
        return not_tried("binding to devices is switched off")
    bound = owner.ask("POST", _BIND, None, (("Secure-Session-Response", _registration(pen, found[1])),))
    if bound.status != 200:
        return not_tried(f"its owner's key was answered {bound.said}")
    stolen = Site(made.scene, dict(owner.cookies))
    reply = stolen.ask("POST", _BIND, None, (("Secure-Session-Response", _registration(thief, found[1])),))
    if reply.status < 400:
        return got_through("a second key was registered", reply.evidence)
    named = ("Sec-Secure-Session-Id", str(bound.json["session_identifier"]))
    asked = stolen.ask("POST", _REFRESH, None, (named,)).headers.get("secure-session-challenge", '""').split('"')
    proof = thief.sign(_HEADER, {"jti": asked[1]})
    reply = stolen.ask("POST", _REFRESH, None, (named, ("Secure-Session-Response", proof)))
    if isinstance(reply.json, dict) and "credentials" in reply.json:
        return got_through("the thief's key was taken for the owner's", reply.evidence)
    if signed_in(made, Site(made.scene, dict(owner.cookies))):
        return got_through("the session lives on after a wrong proof", reply.evidence)
    return blocked("the session ended", "people: keys of devices", reply.evidence)


def _registration(pen: Pen, challenge: str) -> str:
    return pen.sign({**_HEADER, "jwk": pen.jwk}, {"jti": challenge})
