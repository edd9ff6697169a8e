"""Tokens and codes that belong to a key or a device, in the hands of somebody else (RFC 9449, RFC 8628)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, refused
from .registered import DEVICE, Pen, Registered, b64, having
from .wire import Reply

_PROOFS = "people: proof of possession"
_GRANT = {"grant_type": "client_credentials"}


def attacks() -> Iterator[Attack]:
    def attack(
        id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome], *, stolen: bool = False
    ) -> Attack:
        actor = Actor.STOLEN_TOKEN if stolen else Actor.OUTSIDER
        return Attack(id, actor, title, tried, expected, having(run), Alert.LOGIN_FAILURES)

    yield attack("S-dpop-replay", "A DPoP proof used twice", "the same proof twice", "invalid_dpop_proof", _dpop_replay)
    yield attack(
        "S-dpop-elsewhere",
        "A DPoP proof for elsewhere",
        "proofs for another address, method, time, and with a made-up nonce",
        "refused",
        _dpop_elsewhere,
    )
    yield attack(
        "S-dpop-key",
        "A bound token without its key",
        "a stolen bound access token and refresh token: as bearer, without proof, with another key",
        "401 and 400",
        _dpop_stolen,
        stolen=True,
    )
    yield attack(
        "S-device-guess",
        "Guessing user codes",
        "60 user codes tried by somebody who is signed in",
        "none fits, and the guesser is slowed",
        _device_guess,
    )
    yield attack(
        "S-device-steal",
        "Another's device code",
        "a device code polled by other clients, a user code as device code",
        "invalid_grant",
        _device_steal,
    )
    yield attack("D-device-poll", "Polling without pause", "ten polls at once", "slow_down", _device_poll)
    yield attack(
        "S-device-csrf",
        "A device approved by another site",
        "the approval posted without the page's own token, by a signed-in browser",
        "not approved",
        _device_csrf,
    )


def _with_nonce(made: Registered, form: dict[str, str], client: str, pen: Pen | None = None, **claims: Any) -> Reply:
    """A second time with the server's nonce, as clients do it."""
    url = f"{made.scene.issuer}/token"
    reply = made.token(form, client, ("DPoP", made.proof(url, pen, **claims)))
    if reply.status >= 400 and (nonce := reply.headers.get("dpop-nonce")):
        reply = made.token(form, client, ("DPoP", made.proof(url, pen, **{"nonce": nonce, **claims})))
    return reply


def _dpop_replay(made: Registered) -> Outcome:
    url = f"{made.scene.issuer}/token"
    first = made.token(_GRANT, "own", ("DPoP", made.proof(url)))
    nonce = first.headers.get("dpop-nonce")
    given: dict[str, Any] = {"nonce": nonce} if nonce else {}
    proof = made.proof(url, **given)
    used = made.token(_GRANT, "own", ("DPoP", proof))
    if used.status != 200:
        return got_through(f"a proper proof was answered {used.said}", used.evidence)
    return refused(made.token(_GRANT, "own", ("DPoP", proof)), 400, 401, by=_PROOFS)


def _dpop_elsewhere(made: Registered) -> Outcome:
    now = int(time.time())
    for claims in (
        {"htu": "https://evil.example/token"},
        {"htu": f"{made.scene.issuer}/userinfo"},
        {"htm": "GET"},
        {"iat": now - 3600},
        {"iat": now + 3600},
        {"nonce": "made up"},
        {"jti": ""},
    ):
        reply = _with_nonce(made, dict(_GRANT), "own", **claims)
        if reply.status not in (400, 401):
            return got_through(f"{claims}: {reply.said}", reply.evidence)
    return blocked(reply.said, _PROOFS, reply.evidence)


def _dpop_stolen(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser(), "app")
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    issued = _with_nonce(made, {**form, "redirect_uri": "https://shop.example/callback"}, "app")
    if issued.status != 200:
        return got_through(f"the owner's proof was answered {issued.said}", issued.evidence)
    token, thief = issued.json["access_token"], Pen()
    url = f"{made.scene.issuer}/userinfo"
    ath = b64(hashlib.sha256(token.encode()).digest())
    for headers in (
        (("Authorization", f"Bearer {token}"),),
        (("Authorization", f"DPoP {token}"),),
        (("Authorization", f"DPoP {token}"), ("DPoP", made.proof(url, thief, "GET", ath=ath))),
        (("Authorization", f"Bearer {token}"), ("DPoP", made.proof(url, None, "GET", ath=ath))),
    ):
        reply = made.scene.ask("GET", "/auth/userinfo", headers)
        if reply.status not in (400, 401):
            return got_through(f"{headers[0][1][:8]}: {reply.said}", reply.evidence)
    refresh = {"grant_type": "refresh_token", "refresh_token": issued.json["refresh_token"]}
    for reply in (made.token(refresh, "app"), _with_nonce(made, refresh, "app", thief)):
        if reply.status not in (400, 401):
            return got_through(f"refresh: {reply.said}", reply.evidence)
    return blocked(reply.said, _PROOFS, reply.evidence)


def _start(made: Registered) -> dict[str, str]:
    reply = made.post("device_authorization", {"client_id": made.client("tv"), "scope": "openid"})
    if reply.status != 200:
        raise ValueError(f"no device flow: {reply.said}")
    document: dict[str, str] = reply.json
    return document


def _device_guess(made: Registered) -> Outcome:
    _start(made)
    site, slowed, reply = made.browser(), False, Reply(0)
    letters = "BCDFGHJKLMNPQRSTVWXZ"
    for number in range(60):
        guess = "".join(letters[(number * 7 + position * 3) % len(letters)] for position in range(8))
        site.open(f"{made.scene.issuer}/device?user_code={guess[:4]}-{guess[4:]}")
        reply = site.page
        if any(value in ("approve", "allow") for form in site.forms for _, value in form.buttons):
            return got_through(f"{guess} fits", reply.evidence)
        slowed = slowed or reply.status == 429
    if not slowed:
        return got_through("60 guesses, and none was slowed", reply.evidence)
    return blocked("429", "people: guesses of user codes are counted", reply.evidence)


def _poll(made: Registered, code: str, client: str = "tv") -> Reply:
    return made.token({"grant_type": DEVICE, "device_code": code}, client)


def _device_steal(made: Registered) -> Outcome:
    started = _start(made)
    for code, client in (
        (started["device_code"], "app"),
        (started["device_code"], "own"),
        (started["user_code"], "tv"),
    ):
        reply = _poll(made, code, client)
        if reply.status not in (400, 401) or reply.code == "authorization_pending":
            return got_through(f"{client}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: a device code is its client's", reply.evidence)


def _device_poll(made: Registered) -> Outcome:
    code = _start(made)["device_code"]
    replies = [_poll(made, code) for _ in range(10)]
    if any(reply.status != 400 for reply in replies) or replies[-1].code != "slow_down":
        return got_through(replies[-1].said, replies[-1].evidence)
    return blocked("slow_down", "people: device flow", replies[-1].evidence)


def _device_csrf(made: Registered) -> Outcome:
    started, site = _start(made), made.browser()
    form = {"user_code": started["user_code"], "action": "approve", "decision": "approve"}
    for path in ("/auth/device", "/auth/device/approve"):
        for origin in ("https://evil.example", "null"):
            site.ask("POST", path, form, (("Origin", origin), ("Sec-Fetch-Site", "cross-site")))
    reply = _poll(made, started["device_code"])
    if reply.code not in ("authorization_pending", "slow_down", "access_denied"):
        return got_through(reply.said, reply.evidence)
    return blocked(reply.said, "people: form tokens", reply.evidence)
