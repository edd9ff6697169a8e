"""What is left of a session or a client that is over: a copy of an access token, in the hands of somebody else."""

from __future__ import annotations

import base64
import json
import secrets
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
    yield Attack(
        "S-client-deleted-token",
        Actor.STOLEN_TOKEN,
        "The access token of a deleted client",
        "a copy of a client's access token after the client was deleted, and after another was registered under its id",
        "401 within seconds, long before it expires",
        _after_deletion,
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
        reply, fell = _tried(scene, path, *victim.bearer)
        if not fell:
            return got_through(f"{how.__name__}: the copy still opens {path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "pdp: ended sessions", reply.evidence)


def _after_deletion(scene: Scene) -> Outcome:
    operator = scene.means.operator
    if operator is None:
        return not_tried("nobody registered clients to attack")
    name, secret, path = f"attack-gone-{secrets.token_hex(4)}", secrets.token_urlsafe(32), scene.own()[0]
    add = ["client", "add", name, "--secret-stdin", "--grant", "client_credentials", "--scope", "reports"]
    operator(add, secret)
    try:
        proof = ("Authorization", "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode())
        given = _post(scene, "/auth/token", proof, grant_type="client_credentials")
        copy = ("Authorization", f"Bearer {given.json['access_token']}")
        if scene.get(path, None, copy).status == 401:
            return not_tried(f"a fresh token is not even looked at at {path}")
        operator(["client", "delete", name], "")
        operator(add, secret)
        reply, fell = _tried(scene, path, copy)
        if not fell:
            return got_through(f"the copy is still taken at {path}: {reply.said}", reply.evidence)
        known = _post(scene, "/auth/introspect", proof, token=given.json["access_token"])
        if known.json != {"active": False}:
            return got_through(f"the new client's: {known.said}", known.evidence)
        return blocked(reply.said, "pdp: deleted clients", reply.evidence)
    finally:
        operator(["client", "delete", name], "")


def _tried(scene: Scene, path: str, *copy: tuple[str, str]) -> tuple[Reply, bool]:
    """The last answer to the copy, and whether it was refused: when it was sent counts, not how slow the answer is."""
    since = time.monotonic()
    while True:
        sent = time.monotonic()
        reply = scene.get(path, None, *copy)
        if reply.status == 401 or sent - since > _WITHIN:
            return reply, reply.status == 401
        time.sleep(0.1)


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


def _post(scene: Scene, path: str, *headers: tuple[str, str], **form: str) -> Reply:
    return scene.ask("POST", path, (_FORM, *headers), urlencode(form).encode())
