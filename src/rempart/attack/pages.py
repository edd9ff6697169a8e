"""Other web sites against somebody's browser: forged forms, planted cookies, frames, scripts, redirects, sign-outs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode, urlsplit

from .model import Actor, Alert, Attack, Outcome, blocked, got_through
from .registered import SIGNED_OUT, Registered, answered, having, pkce
from .scene import Scene
from .site import Site
from .wire import Reply

_PAGES = (
    "/auth/sign-in",
    "/auth/device",
    "/auth/forgot",
    "/auth/account",
    "/auth/account/security",
    "/auth/sign-out",
    "/auth/signed-out",
    "/auth/reset?token=x",
)
_SCRIPTS = (
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>",
    "' onfocus=alert(1) x='",
    "{{7*7}}",
    "javascript:alert(1)",
)
CROSS = (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"))
_SESSION = "__Host-rempart-session"


def attacks() -> Iterator[Attack]:
    def attack(id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome]) -> Attack:
        return Attack(id, Actor.OUTSIDER, title, tried, expected, having(run), Alert.LOGIN_FAILURES)

    def plain(id: str, title: str, tried: str, expected: str, run: Callable[[Scene], Outcome]) -> Attack:
        return Attack(id, Actor.OUTSIDER, title, tried, expected, run)

    yield attack(
        "S-login-csrf",
        "Signed in by another site",
        "the sign-in form posted without its token, with another browser's, and from another origin",
        "no session",
        _login_csrf,
    )
    yield attack(
        "E-account-csrf",
        "The account page's forms from another site",
        "every form of the account pages posted from another origin and without its token, by a signed-in browser",
        "400 or 403",
        _account_csrf,
    )
    yield attack(
        "S-session-fixation",
        "A session planted before sign-in",
        "a cookie of the adversary's in the victim's browser, and the pre-sign-in cookies afterwards",
        "worth nothing",
        _fixation,
    )
    yield attack(
        "S-cookie-tossing",
        "Cookies of a sibling domain",
        "the session cookie twice, without its prefix, and the adversary's beside the owner's",
        "never the adversary's session",
        _tossing,
    )
    yield plain(
        "E-clickjacking",
        "Pages in a frame",
        "X-Frame-Options and frame-ancestors of every page",
        "none may be framed",
        _clickjacking,
    )
    yield plain(
        "E-script-policy",
        "Scripts where there is a hole",
        "the content security policy of every page",
        "no inline script, no foreign source",
        _policy,
    )
    yield plain(
        "T-xss-parameters", "Script in parameters", "five scripts in every parameter that a page shows", "escaped", _xss
    )
    yield attack(
        "T-header-injection",
        "Line breaks in what becomes a header",
        "CR and LF in state, next, lang and redirects",
        "no header of the adversary's",
        _header_injection,
    )
    yield attack(
        "S-open-redirect",
        "Sent elsewhere after sign-in",
        "next and return addresses of other sites",
        "stays on the site",
        _open_redirect,
    )
    yield attack(
        "I-cache",
        "Codes and tokens in caches and referrers",
        "Cache-Control and Referrer-Policy of what carries them",
        "no-store, no referrer",
        _cache,
    )
    yield attack(
        "I-cookie-flags",
        "Cookies within a script's reach",
        "Secure, HttpOnly, SameSite, __Host- of each cookie",
        "all of them",
        _flags,
    )
    yield plain(
        "I-cors",
        "Read by another site's script",
        "CORS of tokens, userinfo, keys, account, administration and authorization, from three origins",
        "no credentials for other origins",
        _cors,
    )


def signed_in(made: Registered, site: Site) -> bool:
    _, challenge = pkce()
    reply = site.ask("GET", made.request(prompt="none", code_challenge=challenge))
    return "code" in answered(reply.headers.get("location", ""))


def _login_csrf(made: Registered) -> Outcome:
    account = made.scene.account("user")
    answers = {"email": account.email, "password": account.password}
    theirs, victim = Site(made.scene), Site(made.scene)
    _, challenge = pkce()
    for site in (theirs, victim):
        site.open(made.request(code_challenge=challenge))
    form, other = victim.form("password"), theirs.form("password")
    if form is None or other is None:
        return got_through(f"there is no sign-in form: {victim.page.said}")
    path = urlsplit(victim.url).path
    reply = Reply(0)
    for body, headers in (
        (answers, ()),
        ({**other.fields, **answers}, ()),
        ({**form.fields, **answers}, CROSS),
        ({**form.fields, **answers}, (("Origin", "null"),)),
        (answers, CROSS),
    ):
        reply = victim.ask("POST", path, body, headers)
        if _SESSION in victim.cookies or reply.status not in (303, 400, 403):
            return got_through(f"{sorted(body)} {headers}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: form tokens and origins", reply.evidence)


def _account_csrf(made: Registered) -> Outcome:
    site, tried, reply = made.browser(), 0, Reply(0)
    for path in (
        "/auth/account",
        "/auth/account/security",
        "/auth/account/sessions",
        "/auth/account/applications",
        "/auth/account/data",
    ):
        site.open(path)
        for form in site.forms:
            tried += 1
            bare = {name: value for name, value in form.fields.items() if "csrf" not in name and "token" not in name}
            for body, headers in ((form.fields, CROSS), (bare, CROSS)):
                reply = site.ask("POST", form.action or path, body, headers)
                if reply.status not in (400, 403, 404, 405):
                    return got_through(f"{form.action}: {reply.said}", reply.evidence)
    if not tried:
        return got_through("there is no form to forge")
    if not signed_in(made, site):
        return got_through("the person is signed out")
    return blocked(f"{tried} forms: {reply.said}", "people: form tokens and origins", reply.evidence)


def _fixation(made: Registered) -> Outcome:
    account, planted = made.scene.account("user"), "p" * 43
    site = Site(made.scene, {_SESSION: planted})
    _, challenge = pkce()
    site.open(made.request(code_challenge=challenge))
    before = dict(site.cookies)
    site.sign_in(made.request(code_challenge=challenge), account.email, account.password)
    if site.cookies.get(_SESSION) in (None, planted):
        return got_through("the planted cookie stayed")
    for cookies in (before, {_SESSION: planted}):
        if signed_in(made, Site(made.scene, dict(cookies))):
            return got_through("a cookie of before the sign-in is signed in")
    return blocked("a new id at sign-in", "people: sessions", site.page.evidence)


def _tossing(made: Registered) -> Outcome:
    thief, reply = made.browser("user", 1), Reply(0)
    _, challenge = pkce()
    url = made.request(prompt="none", code_challenge=challenge)
    value = thief.cookies[_SESSION]
    for cookie in (
        f"rempart-session={value}",
        f"__Secure-rempart-session={value}",
        f"{_SESSION.lower()}={value}",
        f" {_SESSION.upper()}={value}",
    ):
        reply = Site(made.scene).ask("GET", url, None, (("Cookie", cookie),))
        if "code" in answered(reply.headers.get("location", "")):
            return got_through(f"{cookie.split('=')[0]} counts as a session", reply.evidence)
    owner = made.browser()
    both = f"{_SESSION}={value}; {_SESSION}={owner.cookies[_SESSION]}"
    for pair in (both, "; ".join(reversed(both.split("; ")))):
        reply = Site(made.scene).ask("GET", url, None, (("Cookie", pair),))
        if "code" in answered(reply.headers.get("location", "")):
            return got_through("of two session cookies one was chosen", reply.evidence)
    return blocked(reply.said, "people: sessions", reply.evidence)


def _clickjacking(scene: Scene) -> Outcome:
    return _headers(
        scene,
        lambda reply: (
            "frame-ancestors 'none'" in reply.headers.get("content-security-policy", "")
            or reply.headers.get("x-frame-options", "").lower() == "deny"
        ),
    )


def _policy(scene: Scene) -> Outcome:
    def strict(reply: Reply) -> bool:
        policy = reply.headers.get("content-security-policy", "")
        loose = ("unsafe-inline", "unsafe-eval", "http:", "https:", "*", "data: script")
        return ("default-src 'none'" in policy or "default-src 'self'" in policy) and not any(
            w in policy for w in loose
        )

    return _headers(scene, strict)


def _headers(scene: Scene, sound: Callable[[Reply], bool]) -> Outcome:
    seen, reply = 0, Reply(0)
    for path in _PAGES:
        site = Site(scene)
        site.open(path)
        reply = site.page
        if "html" in reply.headers.get("content-type", ""):
            seen += 1
            if not sound(reply):
                return got_through(
                    f"{path}: {reply.headers.get('content-security-policy', 'no policy')}", reply.evidence
                )
    if not seen:
        return got_through("there are no pages", reply.evidence)
    return blocked(f"{seen} pages", "people: content security policy", reply.evidence)


def _xss(scene: Scene) -> Outcome:
    reply = Reply(0)
    for parameter in (
        "sign-in?login_hint",
        "sign-in?next",
        "sign-in?interaction",
        "sign-in?lang",
        "device?user_code",
        "reset?token",
        "invitation?token",
        "sign-out?logout",
        "authorize?client_id",
        "authorize?redirect_uri",
    ):
        for script in _SCRIPTS:
            reply = Site(scene).ask("GET", f"/auth/{parameter}={quote(script, safe='')}")
            text = reply.body.decode("utf-8", "replace")
            html = "html" in reply.headers.get("content-type", "")
            bad = ("<script>alert", "<img src=x", "' onfocus=", 'href="javascript:', ">49<")
            if reply.status >= 500 or (html and any(one in text for one in bad)):
                return got_through(f"{parameter}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: templates escape", reply.evidence)


def _header_injection(made: Registered) -> Outcome:
    reply = Reply(0)
    bad = "x\r\nSet-Cookie: planted=1\r\nLocation: https://evil.example/"
    for target in (
        made.request(state=bad),
        made.request(redirect_uri=bad),
        f"/auth/sign-in?{urlencode({'next': '/auth/account' + bad})}",
        f"/auth/sign-in?{urlencode({'lang': bad})}",
        f"/auth/logout?{urlencode({'post_logout_redirect_uri': SIGNED_OUT + bad, 'state': bad})}",
    ):
        reply = Site(made.scene).ask("GET", target, None, (("Accept-Language", "fr"),))
        planted = (
            any("planted" in one for one in reply.set_cookies)
            or "evil" in urlsplit(reply.headers.get("location", "")).netloc
        )
        if planted or reply.status >= 500:
            return got_through(f"{target[:60]}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: headers", reply.evidence)


def _open_redirect(made: Registered) -> Outcome:
    account = made.scene.account("user")
    site = Site(made.scene)
    for target in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "https:evil.example",
        "/auth/account@evil.example/..//evil.example",
        "\t//evil.example",
        "javascript:alert(1)",
    ):
        site = Site(made.scene)
        at = site.sign_in(f"/auth/sign-in?{urlencode({'next': target})}", account.email, account.password)
        if at or site.page.status >= 500:
            return got_through(f"{target!r}: {at or site.page.said}", site.page.evidence)
    return blocked("stays on the site", "people: return addresses are its own", site.page.evidence)


def _cache(made: Registered) -> Outcome:
    site = made.browser()
    _, challenge = pkce()
    redirect = site.ask("GET", made.request(code_challenge=challenge))
    token = made.redeem(*made.code(site))
    page = Site(made.scene).ask("GET", "/auth/sign-in")
    for name, reply in (("redirect", redirect), ("tokens", token), ("sign-in page", page)):
        if "no-store" not in reply.headers.get("cache-control", ""):
            return got_through(f"{name}: cache-control {reply.headers.get('cache-control')}", reply.evidence)
    if page.headers.get("referrer-policy") not in ("no-referrer", "same-origin", "strict-origin", "origin"):
        return got_through(f"referrer-policy {page.headers.get('referrer-policy')}", page.evidence)
    return blocked("no-store, no referrer", "people: headers", token.evidence)


def _flags(made: Registered) -> Outcome:
    account, site = made.scene.account("user"), Site(made.scene)
    _, challenge = pkce()
    site.open(made.request(code_challenge=challenge))
    lines = list(site.page.set_cookies)
    form = site.form("password")
    if form is None:
        return got_through("there is no sign-in form")
    reply = site.ask(
        "POST", urlsplit(site.url).path, {**form.fields, "email": account.email, "password": account.password}
    )
    lines += reply.set_cookies
    if not any(line.startswith(_SESSION) for line in lines):
        return got_through(f"no session cookie: {reply.said}", reply.evidence)
    for line in lines:
        low = line.lower()
        if not (low.startswith("__host-") and "secure" in low and "httponly" in low and "samesite=" in low):
            return got_through(line.split("=")[0], reply.evidence)
    return blocked(f"{len(lines)} cookies", "people: cookies", reply.evidence)


def _cors(scene: Scene) -> Outcome:
    reply = Reply(0)
    pages = ("/auth/account", "/auth/authorize", "/auth/account/data", "/auth/admin/users", "/auth/session/refresh")
    for path in ("/auth/userinfo", "/auth/token", "/auth/revoke", "/auth/jwks.json", "/login", *pages):
        for origin in ("https://evil.example", "null", "https://localhost.evil.example"):
            for method in ("OPTIONS", "GET"):
                reply = scene.ask(method, path, (("Origin", origin), ("Access-Control-Request-Method", "GET")))
                allowed = reply.headers.get("access-control-allow-origin", "")
                if allowed in (origin, "*") or "access-control-allow-credentials" in reply.headers:
                    return got_through(f"{path}: {allowed}", reply.evidence)
    return blocked(reply.said, "people: exact origins, no credentials", reply.evidence)
