"""Guessing, enumerating, flooding and reusing: attacks on how people prove who they are."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried, refused
from .scene import Scene
from .wire import NoAnswer, Reply

_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_COMMON = ("Password1!", "Summer2026!", "Welcome123", "qwerty12345", "letmein12345", "Bank2026!!")


def attacks() -> Iterator[Attack]:
    yield Attack(
        "I-enumeration-text",
        Actor.OUTSIDER,
        "Which accounts exist, by text",
        "the same wrong password for an account that exists and one that doesn't",
        "answers alike but for their ids",
        _enumeration_text,
        Alert.LOGIN_FAILURES,
    )
    yield Attack(
        "I-enumeration-time",
        Actor.OUTSIDER,
        "Which accounts exist, by time",
        "twelve times each, medians compared",
        "within a quarter of each other",
        _enumeration_time,
        Alert.LOGIN_FAILURES,
        alone=True,
    )
    yield Attack(
        "S-guessing",
        Actor.OUTSIDER,
        "Guessing one password",
        "40 passwords for one account from one address",
        "429 before the fortieth, and the owner still gets in from elsewhere",
        _guessing,
        Alert.LOGIN_THROTTLED,
        alone=True,
    )
    yield Attack(
        "S-spray",
        Actor.OUTSIDER,
        "Password spray",
        "six common passwords for every account from one address",
        "no login",
        _spray,
        Alert.LOGIN_FAILURES,
        alone=True,
    )
    yield Attack(
        "S-default-passwords",
        Actor.OUTSIDER,
        "Default accounts",
        "admin, root and test with their usual passwords",
        "401",
        _defaults,
        Alert.LOGIN_FAILURES,
    )
    yield Attack(
        "T-login-injection",
        Actor.OUTSIDER,
        "Injection at login",
        "SQL, NoSQL and template expressions, wrong types, two of a name, nesting and surrogates in email and password",
        "400, 401, 413, 415 or 422",
        _injection,
        Alert.LOGIN_FAILURES,
    )
    yield Attack(
        "S-refresh-reuse",
        Actor.STOLEN_TOKEN,
        "Refresh token used twice",
        "a refresh token after its owner used it and the next; then the owner's newest",
        "both refused: the family is revoked",
        _refresh_reuse,
        Alert.REFRESH_REUSE,
    )
    yield Attack(
        "S-refresh-race",
        Actor.STOLEN_TOKEN,
        "Refresh token used at once",
        "one refresh token ten times at once",
        "at most one new token works afterwards",
        _refresh_race,
        Alert.REFRESH_REUSE,
        alone=True,
    )
    yield Attack(
        "S-refresh-guess",
        Actor.OUTSIDER,
        "Guessed and cut refresh tokens",
        "random, truncated and changed refresh tokens, an access token as refresh token",
        "400",
        _refresh_guess,
        Alert.LOGIN_FAILURES,
    )
    yield Attack(
        "E-grant-types",
        Actor.OUTSIDER,
        "Grants nobody offered",
        "password, client_credentials, implicit and token exchange for an admin",
        "400 or 401",
        _grants,
        Alert.LOGIN_FAILURES,
    )
    yield Attack(
        "I-private-keys",
        Actor.OUTSIDER,
        "Private keys in the key set",
        "d, p, q, k, x5c private parts in /auth/jwks.json",
        "public members only",
        _private_keys,
    )


def _login(scene: Scene, email: object, password: object, *, extra: bytes = b"") -> Reply:
    body = extra or json.dumps({"email": email, "password": password}).encode()
    return scene.ask("POST", "/login", (("Content-Type", "application/json"),), body)


def _plain(reply: Reply) -> tuple[int, object, tuple[str, ...]]:
    """What may not differ: status, body without ids, names of the headers."""
    document = reply.json
    if isinstance(document, dict):
        document = {k: v for k, v in document.items() if k not in ("decision_id", "request_id", "instance")}
    return reply.status, str(document), tuple(sorted(reply.headers))


def _enumeration_text(scene: Scene) -> Outcome:
    known = _login(scene, scene.account("devops").email, "a-wrong-password-1")
    unknown = _login(scene, "nobody-at-all@bank.example", "a-wrong-password-1")
    if _plain(known) != _plain(unknown):
        return got_through(f"{known.said} and {unknown.said} differ", known.evidence)
    return blocked(f"{known.said} both times", "people: one answer for both", _failed())


def _failed() -> Trace:
    return Trace(("people.login_failed", "people.login_throttled"))


def _enumeration_time(scene: Scene) -> Outcome:
    """Up to three times: what the work itself makes differ differs in all of them, what the machine does not."""
    said, slower = "", set[bool]()
    for _ in range(3):
        measured = _login_times(scene)
        if measured is None:
            return blocked("throttled before anything could be measured", "people: throttling", _failed())
        known, unknown = measured
        said = f"{known * 1000:.1f} ms and {unknown * 1000:.1f} ms"
        slower.add(known > unknown)
        if len(slower) == 2 or abs(known - unknown) <= max(0.25 * max(known, unknown), 0.004):
            return blocked(said, "people: the same work for both", _failed())
    return got_through(said, _failed())


def _login_times(scene: Scene) -> tuple[float, float] | None:
    """Medians in seconds for an account that exists and one that doesn't; each attempt from an address of its own, so
    that throttling doesn't blur what is measured."""
    emails = (scene.account("devops").email, "nobody-at-all@bank.example")
    times: dict[str, list[float]] = {email: [] for email in emails}
    for attempt in range(12):
        for email in emails if attempt % 2 else emails[::-1]:
            scene.new_source()
            start = time.perf_counter()
            reply = _login(scene, email, f"a-wrong-password-{attempt}")
            if reply.status == 401:
                times[email].append(time.perf_counter() - start)
    if min(map(len, times.values())) < 4:
        return None
    known, unknown = (statistics.median(times[email]) for email in emails)
    return known, unknown


def _guessing(scene: Scene) -> Outcome:
    account = scene.account("devops")
    scene.new_source()
    replies = []
    for attempt in range(40):
        replies.append(_login(scene, account.email, f"guess-number-{attempt}"))
        if replies[-1].status == 429:
            break
    if replies[-1].status != 429:
        return got_through(f"{len(replies)} guesses, the last answered {replies[-1].said}", replies[-1].evidence)
    if not replies[-1].headers.get("retry-after"):
        return got_through("429 without Retry-After", replies[-1].evidence)
    scene.new_source()
    owner = _login(scene, account.email, account.password)
    if owner.status != 200:
        return got_through(f"the owner is locked out: {owner.said}", owner.evidence)
    return blocked(
        f"429 at guess {len(replies)}, the owner gets in", "people: throttling", Trace(("people.login_throttled",))
    )


def _spray(scene: Scene) -> Outcome:
    scene.new_source()
    answers = [_login(scene, account.email, password) for password in _COMMON for account in scene.accounts]
    through = [answer for answer in answers if answer.status not in (401, 429)]
    if through:
        return got_through(through[0].said, through[0].evidence)
    limited = sum(answer.status == 429 for answer in answers)
    return blocked(f"{len(answers)} refused, {limited} of them unread", "people: passwords and throttling", _failed())


def _defaults(scene: Scene) -> Outcome:
    for name, password in (
        ("admin", "admin"),
        ("admin@bank.example", "admin"),
        ("root", "toor"),
        ("test@bank.example", "test"),
    ):
        reply = _login(scene, name, password)
        if reply.status not in (400, 401, 422, 429):
            return got_through(f"{name}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people", _failed())


def _injection(scene: Scene) -> Outcome:
    email = scene.account("admin").email
    bodies = [
        json.dumps({"email": e, "password": p}).encode()
        for e, p in (
            (f"{email}' OR '1'='1", "x"),
            (f"{email}'--", "x"),
            ({"$ne": None}, {"$ne": None}),
            ([email], ["x"]),
            (email, {"$gt": ""}),
            (email, True),
            (email, None),
            (email, 0),
            ("{{7*7}}@${7*7}", "#{7*7}"),
            (f"{email}\x00", "x"),
            (email + "\r\nBcc: x@evil.example", "x"),
            ("\ud800", "\udfff"),
            ("a" * 5000, "b" * 5000),
        )
    ]
    bodies += [
        b'{"email":"' + email.encode() + b'","password":"x","password":"y"}',
        b"[" * 2000 + b"]" * 2000,
        b'{"email":"a","password":"b","role":"admin","is_admin":true}',
        b"\xff\xfe{\x00}\x00",
        b"null",
        b'{"email":NaN,"password":1e999}',
        b"",
    ]
    for body in bodies:
        scene.new_source()
        reply = scene.ask("POST", "/login", (("Content-Type", "application/json"),), body)
        if reply.status not in (400, 401, 413, 415, 422, 429):
            return got_through(f"{body[:60]!r}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: strict input", reply.evidence)


def _refresh(scene: Scene, token: str) -> Reply:
    form = urlencode({"grant_type": "refresh_token", "refresh_token": token}).encode()
    return scene.ask("POST", "/auth/token", _FORM, form)


def _refresh_reuse(scene: Scene) -> Outcome:
    """The owner refreshes twice, since a lost answer may be asked for again until its token was used."""
    session = scene.login(scene.account("user"))
    first = _refresh(scene, session.refresh_token)
    owner = _refresh(scene, first.json["refresh_token"]) if first.status == 200 else first
    if owner.status != 200:
        return not_tried(f"the owner's refresh was answered {owner.said}")
    thief = _refresh(scene, session.refresh_token)
    if thief.status == 200:
        return got_through("the used token was accepted again", thief.evidence)
    again = _refresh(scene, owner.json["refresh_token"])
    if again.status == 200:
        return got_through("the family lives on after a reuse", again.evidence)
    return blocked(f"{thief.said}, then {again.said}", "people: reuse detection", Trace(("people.token_reused",)))


def _refresh_race(scene: Scene) -> Outcome:
    session = scene.login(scene.account("user"))
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: _refresh(scene, session.refresh_token), range(10)))
    failed = [reply for reply in replies if reply.status >= 500]
    if failed:
        return got_through(failed[0].said, failed[0].evidence)
    tokens = [reply.json["refresh_token"] for reply in replies if reply.status == 200]
    working = sum(_refresh(scene, token).status == 200 for token in set(tokens))
    if working > 1:
        return got_through(f"{working} of {len(set(tokens))} tokens work")
    return blocked(
        f"{len(set(tokens))} new tokens, {working} of them works",
        "people: rotation",
        Trace(("people.token_reused", "people.token_refreshed")),
    )


def _refresh_guess(scene: Scene) -> Outcome:
    session = scene.login(scene.account("user"))
    real = session.refresh_token
    for token in (
        "x",
        real[:-4],
        real[:-1] + ("A" if real[-1] != "A" else "B"),
        real + "A",
        session.access_token,
        "../../x",
        "A" * 4000,
    ):
        reply = _refresh(scene, token)
        if reply.status not in (400, 401, 413, 429):
            return got_through(f"{token[:12]}…: {reply.said}", reply.evidence)
    return blocked(reply.said, "people", Trace(("people.token_refused",)))


def _grants(scene: Scene) -> Outcome:
    admin = scene.account("admin")
    for grant in (
        {"grant_type": "password", "username": admin.email, "password": "x"},  # nosec B105 - a wrong one
        {"grant_type": "client_credentials", "client_id": "admin", "scope": "admin"},
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": scene.session("user").access_token,
        },
        {"grant_type": "refresh_token", "refresh_token": "", "role": "admin"},  # nosec B105 - none
    ):
        reply = scene.ask("POST", "/auth/token", _FORM, urlencode(grant).encode())
        if reply.status not in (400, 401):
            return got_through(f"{grant['grant_type']}: {reply.said}", reply.evidence)
    return refused(reply, 400, 401, by="people: only what is offered")


def _private_keys(scene: Scene) -> Outcome:
    try:
        document = scene.get("/auth/jwks.json").json
    except NoAnswer as refusal:
        return not_tried(str(refusal))
    if not isinstance(document, dict) or not document.get("keys"):
        return not_tried("there is no key set")
    leaked = [name for key in document["keys"] for name in ("d", "p", "q", "dp", "dq", "qi", "k", "oth") if name in key]
    if leaked:
        return got_through(f"members {', '.join(leaked)} are published")
    return blocked(f"{len(document['keys'])} public keys", "people: public members only", "GET /auth/jwks.json")
