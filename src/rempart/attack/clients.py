"""Posing as a client, and asking for more than a client may have (RFC 7523, 7662, 7009, 8693, 8628, 9449)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried, refused
from .registered import ACCESS_TOKEN, EXCHANGE, Pen, Registered, b64, having
from .wire import Reply

_REFUSED = Trace(("people.token_refused", "people.client_refused"))
_CLIENTS = "people: client authentication"
_PROOFS = "people: proof of possession"
_GRANT = {"grant_type": "client_credentials"}


def attacks() -> Iterator[Attack]:
    def attack(
        id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome], *, stolen: bool = False
    ) -> Attack:
        actor = Actor.STOLEN_TOKEN if stolen else Actor.OUTSIDER
        return Attack(id, actor, title, tried, expected, having(run), Alert.LOGIN_FAILURES)

    def forged(id: str, title: str, forge: Callable[[Registered], str]) -> Attack:
        return attack(
            f"S-assertion-{id}",
            title,
            "a client assertion for client credentials",
            "401",
            lambda made: refused(made.by_assertion(forge(made)), 400, 401, by=_CLIENTS),
        )

    yield attack(
        "S-client-secret",
        "Guessing a client's secret",
        "empty, cut, default and injected secrets, in both places",
        "401",
        _secrets,
    )
    yield attack(
        "S-client-none",
        "A confidential client that proves nothing",
        "shop and robot named by their id alone",
        "401",
        _nothing,
    )
    yield forged("none", "A client assertion of alg none", lambda made: _unsigned(made, {"alg": "none"}))
    yield forged("hs256", "A client assertion signed with the public key as secret", _hs256)
    yield forged("key", "A client assertion of another's key", lambda made: made.assertion(Pen()))
    yield forged("jwk", "A client assertion that brings its own key", _own_jwk)
    yield forged(
        "aud", "A client assertion meant for another server", lambda made: made.assertion(aud="https://other.example")
    )
    yield forged(
        "crit",
        "A client assertion with an unknown critical header",
        lambda made: made.assertion(header={"crit": ["x"], "x": 1}),
    )
    yield forged("expired", "A client assertion of yesterday", lambda made: made.assertion(exp=int(time.time()) - 3600))
    yield forged(
        "client", "A client assertion that names another client", lambda made: made.assertion(sub=made.client("own"))
    )
    yield attack(
        "S-assertion-replay",
        "A client assertion used twice",
        "the same assertion twice",
        "401 the second time",
        _assertion_replay,
    )
    yield attack(
        "S-refresh-other-client",
        "A refresh token at another client",
        "a stolen refresh token by three other clients, and without the secret",
        "400 or 401, and its owner goes on",
        _refresh_elsewhere,
        stolen=True,
    )
    yield attack(
        "E-refresh-scope",
        "More scopes at refresh",
        "scopes that were never granted",
        "invalid_scope",
        _refresh_scope,
        stolen=True,
    )
    yield attack(
        "I-introspection",
        "Introspection by strangers",
        "without a client, by a public one, with a wrong secret, by a client that the token is not for",
        "401, 403 or inactive",
        _introspection,
        stolen=True,
    )
    yield attack(
        "D-revocation",
        "Revoking another's tokens",
        "a victim's refresh token revoked by another client and by nobody",
        "the owner's refresh still works",
        _revocation,
        stolen=True,
    )
    yield attack(
        "E-exchange-scope",
        "Exchanged for more",
        "a victim's token exchanged for scopes session, admin and another audience",
        "400",
        _exchange_more,
        stolen=True,
    )
    yield attack(
        "E-exchange-forged",
        "A forged token exchanged",
        "alg none, an id token and a refresh token as access tokens",
        "400",
        _exchange_forged,
    )
    yield attack(
        "E-exchange-grant",
        "Exchange by a client that may not",
        "the shop, the public app and the robot exchange a person's token",
        "unauthorized_client",
        _exchange_by_others,
        stolen=True,
    )
    yield attack(
        "E-token-of-a-client",
        "What another program was given, at the services",
        "a token that a person gave to another program, and that program's own, at every kind of route",
        "401 or 403",
        _at_services,
        stolen=True,
    )
    yield attack(
        "E-registration",
        "A client that registers itself",
        "dynamic registration, which is off",
        "no client",
        _registration,
    )


def _secrets(made: Registered) -> Outcome:
    shop = made.client("own")
    for secret in ("", made.secret[:-1], made.secret + "x", "secret", shop, "' or '1'='1", "\x00", "x" * 4000):
        basic = base64.b64encode(f"{shop}:{secret}".encode()).decode()
        for reply in (
            made.token(_GRANT, "", ("Authorization", f"Basic {basic}")),
            made.token({**_GRANT, "client_id": shop, "client_secret": secret}),
        ):
            if reply.status not in (400, 401):
                return got_through(f"{secret[:12]!r}: {reply.said}", reply.evidence)
    return blocked(reply.said, _CLIENTS, _REFUSED)


def _nothing(made: Registered) -> Outcome:
    for name in ("own", "robot", "shop"):
        reply = made.token({**_GRANT, "client_id": made.client(name)})
        if reply.status not in (400, 401):
            return got_through(f"{name}: {reply.said}", reply.evidence)
    return blocked(reply.said, _CLIENTS, _REFUSED)


def _unsigned(made: Registered, header: dict[str, str]) -> str:
    _, payload, _ = made.assertion().split(".")
    return f"{b64(json.dumps(header).encode())}.{payload}."


def _hs256(made: Registered) -> str:
    import hmac

    _, payload, _ = made.assertion().split(".")
    text = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{payload}"
    return f"{text}.{b64(hmac.digest(json.dumps(dict(made.pen.jwk)).encode(), text.encode(), 'sha256'))}"


def _own_jwk(made: Registered) -> str:
    pen = Pen()
    return made.assertion(pen, {"jwk": pen.jwk, "jku": "https://evil.example/keys"})


def _assertion_replay(made: Registered) -> Outcome:
    assertion = made.assertion()
    first = made.by_assertion(assertion)
    if first.status != 200:
        return got_through(f"the robot itself was answered {first.said}", first.evidence)
    return refused(made.by_assertion(assertion), 400, 401, by=_CLIENTS)


def _refresh_elsewhere(made: Registered) -> Outcome:
    token = made.tokens(made.browser())["refresh_token"]
    for client in ("own", "app", "tv", ""):
        reply = made.refresh(token, client)
        if reply.status not in (400, 401):
            return got_through(f"{client or 'nobody'}: {reply.said}", reply.evidence)
    owner = made.refresh(token)
    if owner.status != 200:
        return got_through(f"the owner was answered {owner.said} afterwards", owner.evidence)
    return blocked(reply.said, "people: a refresh token is its client's", _REFUSED)


def _refresh_scope(made: Registered) -> Outcome:
    token = made.tokens(made.browser())["refresh_token"]
    for scope in ("openid session", "session", "openid profile", "openid admin"):
        form = {"grant_type": "refresh_token", "refresh_token": token, "scope": scope}
        reply = made.token(form, "shop")
        if reply.status != 400:
            return got_through(f"{scope}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: scopes only shrink", reply.evidence)


def _introspection(made: Registered) -> Outcome:
    token = made.tokens(made.browser())["access_token"]
    wrong = base64.b64encode(f"{made.client('shop')}:wrong".encode()).decode()
    for reply in (
        made.post("introspect", {"token": token}),
        made.post("introspect", {"token": token, "client_id": made.client("app")}),
        made.post("introspect", {"token": token}, "", ("Authorization", f"Basic {wrong}")),
        made.post("introspect", {"token": token}, "own"),
    ):
        told: Any = reply.json if isinstance(reply.json, dict) else {}
        if reply.status >= 500 or told.get("active") is True or reply.status not in (200, 400, 401, 403):
            return got_through(reply.said, reply.evidence)
    return blocked(f"{reply.said} active: {told.get('active')}", "people: introspection", reply.evidence)


def _revocation(made: Registered) -> Outcome:
    tokens = made.tokens(made.browser())
    for client in ("own", ""):
        for name in ("refresh_token", "access_token"):
            made.post("revoke", {"token": tokens[name]}, client)
            made.post("revoke", {"token": tokens[name], "client_id": made.client("app")}, "")
    owner = made.refresh(tokens["refresh_token"])
    if owner.status != 200:
        return got_through(f"the owner was answered {owner.said}", owner.evidence)
    return blocked("the owner's refresh works", "people: a token is revoked by its client", owner.evidence)


def _exchange(made: Registered, token: str, client: str = "own", **more: str) -> Reply:
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **more}
    return made.token(form, client)


def _exchange_more(made: Registered) -> Outcome:
    token = made.scene.session("user").access_token
    for more in (
        {"scope": "session"},
        {"scope": "admin"},
        {"audience": "https://evil.example"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},  # nosec B105 - no secret
    ):
        reply = _exchange(made, token, "own", **more)
        if reply.status not in (400, 401, 403):
            return got_through(f"{more}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: token exchange", reply.evidence)


def _exchange_forged(made: Registered) -> Outcome:
    tokens = made.tokens(made.browser())
    head = b64(json.dumps({"alg": "none", "typ": "at+jwt"}).encode())
    forged = f"{head}.{tokens['access_token'].split('.')[1]}."
    for token in (forged, tokens["id_token"], tokens["refresh_token"], "", made.assertion()):
        reply = _exchange(made, token)
        if reply.status not in (400, 401):
            return got_through(f"{token[:12]}…: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: token exchange", reply.evidence)


def _exchange_by_others(made: Registered) -> Outcome:
    token = made.scene.session("user").access_token
    for client in ("shop", "app", "tv", ""):
        reply = _exchange(made, token, client)
        if reply.status not in (400, 401):
            return got_through(f"{client}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: grants are registered", reply.evidence)


def _at_services(made: Registered) -> Outcome:
    scene, reply = made.scene, Reply(0)
    person = made.tokens(made.browser())["access_token"]
    machine = made.token(_GRANT, "own")
    if machine.status != 200:
        return not_tried(f"the client's own token: {machine.said}")
    mine, _ = scene.own()
    for token in (person, machine.json["access_token"]):
        for path in (mine, "/users", "/logs", "/metrics", "/transactions", "/auth/admin/users", "/auth/factors"):
            reply = scene.ask("GET", path, (("Authorization", f"Bearer {token}"),))
            if reply.status not in (401, 403, 404):
                return got_through(f"{path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "policy decision", reply.evidence)


def _registration(made: Registered) -> Outcome:
    body = {"redirect_uris": ["https://evil.example/cb"], "grant_types": ["authorization_code"], "scope": "session"}
    for path in ("/auth/register", "/auth/clients", "/auth/connect/register"):
        reply = made.scene.send("POST", path, body)
        if reply.status < 400 or reply.status >= 500:
            return got_through(f"{path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: registration is off", reply.evidence)
