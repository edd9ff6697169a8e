"""Signing somebody out, or sending them elsewhere on the way out (OpenID Connect RP-Initiated Logout)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

from .model import Actor, Alert, Attack, Outcome, blocked, got_through
from .pages import CROSS, signed_in
from .registered import SIGNED_OUT, Pen, Registered, b64, having
from .site import Site


def attacks() -> Iterator[Attack]:
    def attack(id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome]) -> Attack:
        return Attack(id, Actor.OUTSIDER, title, tried, expected, having(run), Alert.LOGIN_FAILURES)

    yield attack(
        "S-logout-redirect",
        "Sent elsewhere after sign-out",
        "post_logout_redirect_uri of other sites",
        "stays on the site",
        _logout_redirect,
    )
    yield attack(
        "D-logout-csrf",
        "Signed out by another site",
        "the end-session address as an image, with and without a client",
        "still signed in",
        _logout_csrf,
    )
    yield attack(
        "D-logout-hint",
        "Signed out by a forged hint",
        "id_token_hint of alg none, of another's key, of another person",
        "still signed in",
        _logout_hint,
    )
    yield attack(
        "S-session-after-logout",
        "A session cookie after sign-out",
        "the cookie kept by a thief, used after its owner signed out",
        "nobody is signed in",
        _after_logout,
    )


def _end(made: Registered, **parameters: str) -> str:
    return f"{made.scene.issuer}/logout?{urlencode(parameters)}"


def _logout_redirect(made: Registered) -> Outcome:
    site, hint = made.browser(), ""
    for uri in (
        "https://evil.example/",
        SIGNED_OUT + "/x",
        "//evil.example",
        "javascript:alert(1)",
        SIGNED_OUT + "@evil.example",
    ):
        hint = made.tokens(site)["id_token"]
        at = site.open(_end(made, id_token_hint=hint, post_logout_redirect_uri=uri, client_id=made.client("shop")))
        if at or site.page.status >= 500:
            return got_through(f"{uri}: sent to {at}", site.page.evidence)
        site = made.browser()
    return blocked(site.page.said, "people: sign-out addresses match exactly", site.page.evidence)


def _logout_csrf(made: Registered) -> Outcome:
    site = made.browser()
    for parameters in (
        {},
        {"client_id": made.client("shop")},
        {"post_logout_redirect_uri": SIGNED_OUT, "client_id": made.client("shop")},
    ):
        site.ask("GET", _end(made, **parameters), None, (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Dest", "image")))
        site.ask("POST", f"{made.scene.issuer}/logout", parameters, CROSS)
        if not signed_in(made, site):
            return got_through(f"{sorted(parameters)}: signed out")
    return blocked("still signed in", "people: sign-out asks the person", site.page.evidence)


def _logout_hint(made: Registered) -> Outcome:
    site = made.browser()
    header, claims, _ = made.tokens(site)["id_token"].split(".")
    pen = Pen()
    own = json.loads(_decode(claims))
    stranger = made.tokens(made.browser("user", 1))["id_token"]
    none = b64(json.dumps({"alg": "none"}).encode())
    for hint in (
        f"{none}.{claims}.",
        f"{header}.{claims}.AAAA",
        pen.sign({"alg": "ES256", "jwk": pen.jwk}, own),
        stranger,
        "x",
    ):
        site.open(_end(made, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT))
        if not signed_in(made, site):
            return got_through("signed out by a hint that is not theirs", site.page.evidence)
    return blocked("still signed in", "people: hints are verified", site.page.evidence)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _after_logout(made: Registered) -> Outcome:
    site = made.browser()
    kept = dict(site.cookies)
    hint = made.tokens(site)["id_token"]
    at = site.open(_end(made, id_token_hint=hint, post_logout_redirect_uri=SIGNED_OUT))
    if not at:
        for form in site.forms:
            if form.buttons:
                site.submit(form, {})
                break
    if signed_in(made, Site(made.scene, kept)):
        return got_through("the session lives on")
    return blocked("nobody is signed in", "people: sessions end at the server", site.page.evidence)
