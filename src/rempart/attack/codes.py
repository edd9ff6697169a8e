"""Stolen, injected and replayed authorization codes, and requests bent to give them away (RFC 9700 section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, refused
from .registered import CALLBACK, Registered, answered, having, pkce
from .site import Site
from .wire import Reply

_REFUSED = Trace(("people.token_refused", "people.token_reused", "people.client_refused"))
_AUTHORIZATION = "people: authorization requests"

_REDIRECTS: Sequence[tuple[str, str, Sequence[str]]] = (
    (
        "host",
        "another host, or one that only looks like the shop's",
        (
            "https://evil.example/callback",
            "https://shop.example.evil.example/callback",
            "https://evil.shop.example/callback",
            "https://shop.example@evil.example/callback",
            "https://evil.example\\@shop.example/callback",
            "https://shop.example:8443/callback",
            "//evil.example/callback",
        ),
    ),
    (
        "path",
        "another path of the shop's, where something leaks codes",
        (
            CALLBACK + "/x",
            CALLBACK + "/..",
            "https://shop.example/callback/../redirect",
            "https://shop.example//callback",
        ),
    ),
    (
        "spelling",
        "the same address spelled otherwise",
        (
            CALLBACK + "/",
            CALLBACK + "?",
            CALLBACK + "#",
            CALLBACK.upper(),
            "https://shop.example:443/callback",
            "https://shop.example/%63allback",
            " " + CALLBACK,
            CALLBACK + "\t",
            CALLBACK + "\x00",
        ),
    ),
    (
        "scheme",
        "a scheme that runs or reads",
        ("http://shop.example/callback", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"),
    ),
)


def attacks() -> Iterator[Attack]:
    yield _attack(
        "S-code-injection",
        "A stolen code put into another's browser",
        "a victim's code at the shop, with the verifier of the adversary's own sign-in",
        "invalid_grant: the code is bound to its own verifier",
        _injection,
    )
    yield _attack(
        "S-code-replay",
        "A code used twice",
        "a code after its client redeemed it; then the refresh token that the first use gave",
        "both refused: a code that comes twice ends what it gave",
        _replay,
    )
    yield _attack(
        "S-code-race",
        "A code used at once",
        "one code and its verifier ten times at once",
        "one answer with tokens at most",
        _race,
    )
    yield _attack(
        "S-code-other-client",
        "A code at another client",
        "a stolen code and verifier, by a registered client of the adversary's",
        "invalid_grant",
        _other_client,
    )
    yield _attack(
        "S-code-no-secret",
        "A code without the client's secret",
        "a stolen code and verifier with the client's id alone, and with guessed secrets",
        "401",
        _no_secret,
    )
    yield _attack("S-code-guess", "Guessed codes", "cut, changed, empty and made-up codes", "400", _guess)
    yield _attack(
        "S-code-other-redirect",
        "A code with another redirect",
        "a code redeemed as if it had gone to another address",
        "invalid_grant",
        _other_redirect,
    )
    yield _attack(
        "E-pkce-plain",
        "PKCE weakened to plain",
        "code_challenge_method plain, none named, unknown",
        "no code",
        _request({"code_challenge_method": ("plain", None, "s256", "S1")}),
    )
    yield _attack(
        "E-pkce-none",
        "PKCE left out",
        "no challenge, an empty and a short one, for a public and a confidential client",
        "no code",
        _request({"code_challenge": (None, "", "short")}),
    )
    yield _attack(
        "E-response-type",
        "Tokens in the front channel",
        "response_type token, id_token and mixtures",
        "unsupported_response_type",
        _request({"response_type": ("token", "id_token", "code token", "code id_token", "id_token token", "none")}),
    )
    yield _attack(
        "E-scope-first-party",
        "A client asks for a person's whole role",
        "scopes session, admin, role and scim",
        "invalid_scope",
        _request({"scope": ("openid session", "session", "openid admin", "openid role:admin", "openid scim")}),
    )
    yield _attack(
        "S-request-object",
        "A request written by the adversary",
        "request with alg none, request_uri at foreign, local and file addresses",
        "refused, and nothing is fetched",
        _request(
            {
                "request": ("eyJhbGciOiJub25lIn0.eyJzY29wZSI6InNlc3Npb24ifQ.",),
                "request_uri": ("https://evil.example/r", "http://127.0.0.1:1/r", "file:///etc/passwd"),
            }
        ),
    )
    for kind, title, uris in _REDIRECTS:
        yield _attack(
            f"S-redirect-{kind}",
            f"Redirected to {title}",
            f"{len(uris)} redirect URIs that nobody registered",
            "400 on a page, no redirect",
            _redirects(uris),
        )
    yield _attack(
        "S-mix-up",
        "Mix-up of two issuers",
        "whether answers and errors name their issuer (RFC 9207)",
        "iss in each",
        _mix_up,
    )
    yield _attack(
        "S-prompt-none",
        "Signed in without a word",
        "prompt=none without a session, and with a made-up cookie",
        "login_required",
        _prompt_none,
    )
    yield _attack(
        "S-parameters-twice",
        "Parameters given twice",
        "client_id, redirect_uri and scope twice, the second one the adversary's",
        "no code",
        _twice,
    )
    yield _attack(
        "S-par-stolen",
        "Another's pushed request",
        "a pushed request by another client, a second time, and with parameters beside it",
        "refused, and what was pushed alone counts",
        _par,
    )
    yield _attack(
        "T-state-injection",
        "A state that breaks out",
        "state with line breaks and markup, by query and form_post",
        "comes back as it was, escaped",
        _state,
    )


def _attack(id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome]) -> Attack:
    return Attack(id, Actor.OUTSIDER, title, tried, expected, having(run), Alert.LOGIN_FAILURES)


def _injection(made: Registered) -> Outcome:
    stolen, _ = made.code(made.browser())
    _, verifier = made.code(made.browser("user", 1))
    return refused(made.redeem(stolen, verifier), 400, by="people: PKCE") if stolen else got_through("no code")


def _replay(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser())
    first = made.redeem(code, verifier)
    second = made.redeem(code, verifier)
    if first.status != 200 or second.status != 400:
        return got_through(f"{first.said}, then {second.said}", second.evidence)
    after = made.refresh(first.json["refresh_token"])
    if after.status == 200:
        return got_through("what the first use gave lives on", after.evidence)
    return blocked(f"{second.said}, then {after.said}", "people: codes are used once", _REFUSED)


def _race(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser())
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: made.redeem(code, verifier), range(10)))
    good = sum(reply.status == 200 for reply in replies)
    odd = [reply for reply in replies if reply.status not in (200, 400)]
    if good > 1 or odd:
        return got_through(f"{good} answers with tokens; {odd[0].said if odd else ''}")
    return blocked(f"{good} of 10", "people: codes are used once", _REFUSED)


def _other_client(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser())
    for client in ("own", "app", "tv"):
        reply = made.redeem(code, verifier, client)
        if reply.status not in (400, 401):
            return got_through(f"{client}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: a code is its client's", _REFUSED)


def _no_secret(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser())
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": verifier}
    for more in ({}, {"client_secret": ""}, {"client_secret": "secret"}, {"client_secret": made.client("shop")}):  # nosec B105 - no secret
        reply = made.token({**form, "client_id": made.client("shop"), **more})
        if reply.status not in (400, 401):
            return got_through(reply.said, reply.evidence)
    return blocked(reply.said, "people: client authentication", _REFUSED)


def _guess(made: Registered) -> Outcome:
    code, verifier = made.code(made.browser())
    for wrong in (code[:-1], code + "A", code[::-1], "", "A" * 43, "../x", "0"):
        reply = made.redeem(wrong, verifier)
        if reply.status != 400:
            return got_through(f"{wrong[:8]}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: codes of 256 random bits", _REFUSED)


def _other_redirect(made: Registered) -> Outcome:
    for uri in ("https://evil.example/callback", CALLBACK + "/", ""):
        code, verifier = made.code(made.browser())
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": uri, "code_verifier": verifier}
        reply = made.token(form, "shop")
        if reply.status != 400:
            return got_through(f"{uri}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: a code is bound to its redirect", _REFUSED)


def _gives_code(reply: Reply) -> bool:
    at = reply.headers.get("location", "")
    return bool({"code", "access_token", "id_token"} & set(answered(at)))


def _request(spoiled: dict[str, tuple[str | None, ...]]) -> Callable[[Registered], Outcome]:
    """Each value is tried by somebody who is signed in: only the request can be what is refused."""

    def run(made: Registered) -> Outcome:
        site = made.browser()
        reply = Reply(0)
        for name, values in spoiled.items():
            for value in values:
                for client in ("shop", "app"):
                    _, challenge = pkce()
                    reply = site.ask("GET", made.request(client, **{"code_challenge": challenge, name: value}))
                    returned = answered(reply.headers.get("location", ""))
                    if _gives_code(reply) or not (reply.status == 400 or "error" in returned):
                        return got_through(f"{name}={value}: {reply.said}", reply.evidence)
        return blocked(returned.get("error") or reply.said, _AUTHORIZATION, reply.evidence)

    return run


def _redirects(uris: Sequence[str]) -> Callable[[Registered], Outcome]:
    def run(made: Registered) -> Outcome:
        site = made.browser()
        reply = Reply(0)
        for uri in uris:
            for client in ("shop", "app"):
                _, challenge = pkce()
                reply = site.ask("GET", made.request(client, redirect_uri=uri, code_challenge=challenge))
                if reply.status != 400 or "location" in reply.headers:
                    return got_through(f"{uri!r}: {reply.said}", reply.evidence)
        return blocked(reply.said, "people: redirects match exactly", reply.evidence)

    return run


def _mix_up(made: Registered) -> Outcome:
    site = made.browser()
    _, challenge = pkce()
    good = site.sign_in(made.request(code_challenge=challenge), "", "")
    bad = site.ask("GET", made.request(code_challenge=challenge, response_type="token"))
    for answer in (answered(good), answered(bad.headers.get("location", ""))):
        if answer.get("iss") != made.scene.issuer:
            return got_through(f"iss is {answer.get('iss')!r}", bad.evidence)
    return blocked("iss in both", _AUTHORIZATION, bad.evidence)


def _prompt_none(made: Registered) -> Outcome:
    _, challenge = pkce()
    for cookies in ({}, {"__Host-rempart-session": "A" * 43}, {"rempart-session": "admin"}):
        site = Site(made.scene, dict(cookies))
        reply = site.ask("GET", made.request(prompt="none", code_challenge=challenge))
        if answered(reply.headers.get("location", "")).get("error") != "login_required":
            return got_through(reply.said, reply.evidence)
    return blocked("login_required", "people: sessions", reply.evidence)


def _twice(made: Registered) -> Outcome:
    site = made.browser()
    _, challenge = pkce()
    url = made.request(code_challenge=challenge)
    reply = Reply(0)
    for more in (
        "&client_id=" + made.client("own"),
        "&redirect_uri=https%3A%2F%2Fevil.example%2F",
        "&scope=session",
        "&code_challenge=x",
    ):
        for target in (url + more, url.replace("?", "?" + more[1:] + "&", 1)):
            reply = site.ask("GET", target)
            if _gives_code(reply) or "evil" in reply.headers.get("location", ""):
                return got_through(f"{more}: {reply.headers.get('location')}", reply.evidence)
    return blocked(reply.said, _AUTHORIZATION, reply.evidence)


def _par(made: Registered) -> Outcome:
    def push() -> str:
        _, challenge = pkce()
        query = made.request(code_challenge=challenge)
        reply = made.post("par", {k: v for k, v in answered(query).items() if k != "client_id"}, "shop")
        if reply.status != 201:
            raise ValueError(f"nothing could be pushed: {reply.said}")
        return str(reply.json["request_uri"])

    site = made.browser()
    address = f"{made.scene.issuer}/authorize?request_uri={{}}&client_id={{}}"
    stolen = site.ask("GET", address.format(push(), made.client("own")))
    if _gives_code(stolen):
        return got_through("another client used it", stolen.evidence)
    uri = push()
    first = site.sign_in(address.format(uri, made.client("shop")) + "&redirect_uri=https%3A%2F%2Fevil.example", "", "")
    if "evil" in first:
        return got_through(f"sent to {first}")
    second = site.ask("GET", address.format(uri, made.client("shop")))
    if _gives_code(second):
        return got_through("a pushed request was used twice", second.evidence)
    return blocked(second.said, "people: pushed requests are used once", second.evidence)


def _state(made: Registered) -> Outcome:
    site = made.browser()
    for state in ("x\r\nSet-Cookie: planted=1", '"><script>alert(1)</script>', "x&code=stolen&iss=evil"):
        for mode in ("query", "form_post"):
            _, challenge = pkce()
            reply = site.ask("GET", made.request(state=state, response_mode=mode, code_challenge=challenge))
            if any("planted" in cookie for cookie in reply.set_cookies) or b"<script>alert" in reply.body:
                return got_through(f"{state!r} broke out", reply.evidence)
            location = reply.headers.get("location", "")
            if reply.status >= 500 or (location and answered(location).get("state") != state):
                return got_through(f"{state!r}: {reply.said} {location}", reply.evidence)
    return blocked(reply.said, _AUTHORIZATION, reply.evidence)
