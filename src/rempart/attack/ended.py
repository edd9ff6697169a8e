"""What is left of a session that was ended alone: a copy of its access token, in the hands of somebody else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, not_tried
from .scene import Scene, Session
from .wire import Reply

_FORM = ("Content-Type", "application/x-www-form-urlencoded")
_WITHIN = 3.0  # seconds in which the end of a session must have reached every gate


def attacks() -> Iterator[Attack]:
    yield Attack(
        "S-session-ended-token",
        Actor.STOLEN_TOKEN,
        "The access token of an ended session",
        "copies of access tokens after their sessions were ended: signed out elsewhere, refresh token revoked or "
        "reused, access token revoked",
        "401 within seconds, long before they expire",
        _after_the_end,
        Alert.REFRESH_REUSE,
    )


def _after_the_end(scene: Scene) -> Outcome:
    path, usual = scene.own()
    for how in (_ended_elsewhere, _revoked, _reused, _token_revoked):
        victim = scene.login(usual.account)
        if scene.get(path, victim).status == 401:
            return not_tried(f"a fresh token opens nothing at {path}")
        done = how(scene, victim)
        if done.status >= 400:
            return not_tried(f"{how.__name__}: its owner was answered {done.said}")
        until = time.monotonic() + _WITHIN
        while (reply := scene.get(path, victim)).status != 401:
            if time.monotonic() > until:
                return got_through(f"{how.__name__}: the copy still opens {path}: {reply.said}", reply.evidence)
            time.sleep(0.1)
    return blocked(reply.said, "pdp: ended sessions", reply.evidence)


def _ended_elsewhere(scene: Scene, victim: Session) -> Reply:
    """By its owner, on another device of theirs."""
    claims = victim.access_token.split(".")[1]
    session = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sid"]
    other = scene.login(victim.account)
    return scene.ask("DELETE", f"/auth/sessions/{session}", other.bearer)


def _revoked(scene: Scene, victim: Session) -> Reply:
    return _post(scene, "/auth/revoke", token=victim.refresh_token)


def _token_revoked(scene: Scene, victim: Session) -> Reply:
    return _post(scene, "/auth/revoke", token=victim.access_token)


def _reused(scene: Scene, victim: Session) -> Reply:
    """A copy of the refresh token comes back after its successor was used: the family dies."""
    first = _refresh(scene, victim.refresh_token)
    if first.status != 200:
        return first
    second = _refresh(scene, first.json["refresh_token"])
    _refresh(scene, victim.refresh_token)
    return second


def _refresh(scene: Scene, token: str) -> Reply:
    return _post(scene, "/auth/token", grant_type="refresh_token", refresh_token=token)


def _post(scene: Scene, path: str, **form: str) -> Reply:
    return scene.ask("POST", path, (_FORM,), urlencode(form).encode())
