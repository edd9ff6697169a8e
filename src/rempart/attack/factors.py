"""Second factors and resets: codes replayed and guessed, factors left out, links guessed, accounts found out."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried
from .registered import FORM, STEP, Pen, Registered, b64, having, one_time_code, pkce
from .scene import Account, Scene
from .site import Site
from .wire import Reply

_FAILED = Trace(("people.login_failed", "people.factor_failed", "people.login_throttled"))
_FACTORS = "people: second factors"
_NO_CODES: tuple[dict[str, object], ...] = (
    {},
    {"otp": ""},
    {"otp": None},
    {"otp": 0},
    {"otp": []},
    {"otp": True},
    {"otp": "000000 "},
)


def attacks() -> Iterator[Attack]:
    def attack(
        id: str, title: str, tried: str, expected: str, run: Callable[[Registered], Outcome], *, alone: bool = True
    ) -> Attack:
        return Attack(id, Actor.OUTSIDER, title, tried, expected, having(run), Alert.LOGIN_FAILURES, alone)

    def plain(
        id: str, title: str, tried: str, expected: str, run: Callable[[Scene], Outcome], *, alone: bool = False
    ) -> Attack:
        return Attack(id, Actor.OUTSIDER, title, tried, expected, run, Alert.LOGIN_FAILURES, alone)

    yield attack(
        "S-totp-skip",
        "The second factor left out",
        "the right password alone: at login, on the page, with empty, null and wrong-typed codes",
        "nobody is let in",
        _skip,
    )
    yield attack(
        "S-totp-replay",
        "A one-time code used twice",
        "a phished password and code after their owner used them",
        "401",
        _replay,
    )
    yield attack(
        "S-totp-race", "A one-time code used at once", "password and code six times at once", "one login at most", _race
    )
    yield attack(
        "S-totp-guess",
        "Guessing one-time codes",
        "40 codes with the right password, from many addresses",
        "then not even the right code; its owner still gets in on a known device",
        _bombing,
    )
    yield attack(
        "S-totp-drift",
        "Codes of other times",
        "codes of an hour and of a minute and a half ago, of the next half minute and of later",
        "401",
        _drift,
    )
    yield attack(
        "S-backup-code-guess", "Guessing backup codes", "made-up backup codes of several forms", "401 or 429", _backup
    )
    yield attack(
        "E-step-skip",
        "Past the second factor's page",
        "the half-done sign-in's cookies at the account pages and at the authorization endpoint",
        "not signed in",
        _half_done,
    )
    yield attack(
        "S-passkey-forged",
        "A forged passkey",
        "assertions of another origin, another key, without user verification, at every passkey endpoint",
        "nobody is let in",
        _passkey,
        alone=False,
    )
    yield plain(
        "S-reset-guess",
        "Guessed reset and invitation links",
        "30 made-up tokens, shown and used",
        "refused",
        _reset_guess,
    )
    yield plain(
        "S-reset-host",
        "A reset link that leads elsewhere",
        "Host, X-Forwarded-Host and Forwarded of the adversary's when a reset is asked for",
        "400 or links to the issuer only",
        _reset_host,
    )
    yield plain(
        "I-reset-enumeration",
        "Which accounts exist, by asking for a reset",
        "an address that exists and one that doesn't",
        "answers alike",
        _reset_alike,
        alone=True,
    )
    yield plain(
        "I-enumeration-page",
        "Which accounts exist, by the sign-in page",
        "wrong passwords on the page for an account that exists and one that doesn't",
        "answers alike",
        _page_alike,
        alone=True,
    )
    yield plain(
        "S-spray-page",
        "Password spray through the pages",
        "common passwords for every account on the sign-in page, from one address",
        "nobody is let in, and it is slowed",
        _spray,
        alone=True,
    )
    yield attack(
        "S-guessing-spread",
        "Guessing from many addresses",
        "130 passwords for one account, each from another address",
        "429, and the owner gets in on a known device",
        _spread,
    )


def _login(scene: Scene, account: Account, **more: object) -> Reply:
    return scene.send("POST", "/login", {"email": account.email, "password": account.password, **more})


def _code(made: Registered, steps: int = 0) -> str:
    """Of now or of so many steps ahead, at least a few seconds before the next step begins."""
    left = STEP - time.time() % STEP
    if left < 5:
        time.sleep(left + 0.1)
    return one_time_code(made.totp, time.time() + steps * STEP)


def _skip(made: Registered) -> Outcome:
    account, reply = made.guarded[0], Reply(0)
    for more in _NO_CODES:
        reply = _login(made.scene, account, **more)
        if reply.status not in (400, 401, 422, 429):
            return got_through(f"{more}: {reply.said}", reply.evidence)
    site = Site(made.scene)
    _, challenge = pkce()
    if site.sign_in(made.request(code_challenge=challenge), account.email, account.password):
        return got_through("the page let the password alone in", site.page.evidence)
    return blocked(reply.said, _FACTORS, _FAILED)


def _replay(made: Registered) -> Outcome:
    code = _code(made)
    owner = _login(made.scene, made.guarded[0], otp=code)
    if owner.status != 200:
        return not_tried(f"the owner's code was answered {owner.said}")
    made.scene.new_source()
    thief = _login(made.scene, made.guarded[0], otp=code)
    if thief.status != 401:
        return got_through(thief.said, thief.evidence)
    return blocked(thief.said, "people: a code is accepted once", _FAILED)


def _race(made: Registered) -> Outcome:
    code = _code(made)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: _login(made.scene, made.guarded[1], otp=code), range(6)))
    good = sum(reply.status == 200 for reply in replies)
    if good > 1 or any(reply.status >= 500 for reply in replies):
        return got_through(f"{good} logins with one code")
    return blocked(f"{good} of 6", "people: a code is accepted once", _FAILED)


def _bombing(made: Registered) -> Outcome:
    """A throttled guess is answered as a wrong one, since 429 would say that the password is right: so what counts is
    that right afterwards not even the right code lets a stranger in, while it does its owner."""
    scene, account = made.scene, made.guarded[2]
    owner = _login(scene, account, otp=_code(made, -1))
    if owner.status != 200:
        return not_tried(f"the owner's code was answered {owner.said}")
    for number in range(40):
        scene.new_source()
        reply = _login(scene, account, otp=f"{number:06d}")
        if reply.status not in (401, 429):
            return got_through(f"guess {number}: {reply.said}", reply.evidence)
    scene.new_source()
    lucky = _login(scene, account, otp=_code(made))
    if lucky.status not in (401, 429):
        return got_through(f"after forty guesses the right one was answered {lucky.said}", lucky.evidence)
    scene.new_source()
    back = _login(scene, account, otp=_code(made), device=owner.json.get("device"))
    if back.status != 200:
        return got_through(f"the owner on a known device was answered {back.said}", back.evidence)
    return blocked(f"{lucky.said}; the owner got in", "people: throttling", _FAILED)


def _drift(made: Registered) -> Outcome:
    reply = Reply(0)
    for seconds in (-3600, -90, STEP + 15, 180, 3600):  # 15: however slow the answer, not yet this step's by then
        made.scene.new_source()
        reply = _login(made.scene, made.guarded[0], otp=one_time_code(made.totp, time.time() + seconds))
        if reply.status not in (401, 429):
            return got_through(f"{seconds} s: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: a delay of one step", _FAILED)


def _backup(made: Registered) -> Outcome:
    reply = Reply(0)
    for code in ("AAAA-AAAA", "aaaaaaaaaa", "12345-67890", "0" * 16, "ABCDE-FGHIJ", "' or 1=1", "AAAAA-AAAAA-AAAAA"):
        made.scene.new_source()
        reply = _login(made.scene, made.guarded[0], otp=code)
        if reply.status not in (400, 401, 422, 429):
            return got_through(f"{code}: {reply.said}", reply.evidence)
    return blocked(reply.said, _FACTORS, _FAILED)


def _half_done(made: Registered) -> Outcome:
    site = Site(made.scene)
    _, challenge = pkce()
    site.sign_in(made.request(code_challenge=challenge), made.guarded[0].email, made.guarded[0].password)
    for path in (
        "/auth/account",
        "/auth/account/security",
        "/auth/account/data",
        made.request(prompt="none", code_challenge=challenge),
    ):
        reply = site.ask("GET", path)
        where = reply.headers.get("location", "")
        if reply.status == 200 or "code=" in where or reply.status >= 500:
            return got_through(f"{path[:30]}: {reply.said}", reply.evidence)
    return blocked(reply.said, _FACTORS, reply.evidence)


def _passkey(made: Registered) -> Outcome:
    pen, reply = Pen(), Reply(0)
    client = json.dumps(
        {"type": "webauthn.get", "challenge": b64(b"c" * 32), "origin": "https://evil.example"}
    ).encode()
    forged = {
        "id": b64(b"i" * 16),
        "rawId": b64(b"i" * 16),
        "type": "public-key",
        "response": {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(b"\x00" * 32 + b"\x05" + b"\x00" * 4),
            "signature": pen.sign({}, {}).rpartition(".")[2],
            "userHandle": b64(made.scene.account("admin").user_id.encode()),
        },
        "clientExtensionResults": {},
    }
    for path in (
        "/auth/passkey/verify",
        "/auth/passkey",
        "/auth/sign-in/passkey",
        "/auth/passkeys/verify",
        "/auth/sign-in/passkey/verify",
    ):
        bodies: tuple[object, ...] = (forged, {"credential": forged}, {}, [])
        for body in bodies:
            reply = made.scene.send("POST", path, body)
            form = urlencode({"credential": json.dumps(forged), "response": json.dumps(forged)}).encode()
            for one in (reply, made.scene.ask("POST", path, FORM, form)):
                if not 300 <= one.status < 500 or any("session=" in cookie for cookie in one.set_cookies):
                    return got_through(f"{path}: {one.said}", one.evidence)
    return blocked(reply.said, "people: WebAuthn", reply.evidence)


def _reset_guess(scene: Scene) -> Outcome:
    reply = Reply(0)
    for number in range(15):
        token = ("", "x", "0", "../x", "' or 1=1", "\x00")[number] if number < 6 else secrets.token_urlsafe(32)
        for path in ("/auth/reset", "/auth/invitation"):
            site = Site(scene)
            site.open(f"{path}?{urlencode({'token': token})}")
            form = site.form("password") or site.form("new_password")
            if site.page.status >= 500:
                return got_through(f"{path}: {site.page.said}", site.page.evidence)
            body = {
                "token": token,
                "password": "a quiet adversary's password",  # nosec B105 - no secret
                "new_password": "a quiet adversary's password",  # nosec B105 - no secret
            }
            reply = site.ask("POST", path, {**(form.fields if form else {}), **body})
            if reply.status == 200 or reply.status >= 500 or any("session=" in one for one in reply.set_cookies):
                return got_through(f"{token[:8]!r}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: links of 256 random bits", reply.evidence)


def _reset_host(scene: Scene) -> Outcome:
    email, reply = scene.account("user", 1).email, Reply(0)
    for header in (
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "host=evil.example"),
        ("X-Forwarded-Proto", "http"),
    ):
        site = Site(scene)
        site.open("/auth/forgot")
        form = site.form("email")
        reply = site.ask("POST", "/auth/forgot", {**(form.fields if form else {}), "email": email}, (header,))
        if reply.status >= 500 or b"evil.example" in reply.body or "evil" in reply.headers.get("location", ""):
            return got_through(f"{header[0]}: {reply.said}", reply.evidence)
    return blocked(reply.said, "people: links begin with the issuer", reply.evidence)


def _alike(scene: Scene, path: str, answers: Callable[[str], dict[str, str]], field: str, by: str) -> Outcome:
    seen, reply = [], Reply(0)
    for email in (scene.account("user", 1).email, f"nobody-{secrets.token_hex(3)}@{scene.trust_domain}"):
        scene.new_source()
        site = Site(scene)
        site.open(path)
        form = site.form(field)
        if form is None:
            return got_through(f"there is no form: {site.page.said}", site.page.evidence)
        site.submit(form, answers(email))
        reply = site.page
        text = reply.body.decode("utf-8", "replace").replace(email, "")
        words = " ".join(part.partition(">")[2] for part in text.split("<"))
        seen.append((reply.status, " ".join(words.split())))
    if seen[0] != seen[1]:
        return got_through(f"{seen[0][0]} and {seen[1][0]}, or other words", reply.evidence)
    return blocked(f"{reply.status} for both", by, reply.evidence)


def _reset_alike(scene: Scene) -> Outcome:
    return _alike(scene, "/auth/forgot", lambda email: {"email": email}, "email", "people: one answer for all")


def _page_alike(scene: Scene) -> Outcome:
    wrong = {"password": "certainly not this one"}  # nosec B105 - no secret
    return _alike(
        scene, "/auth/sign-in", lambda email: {"email": email, **wrong}, "password", "people: one answer for all"
    )


def _spray(scene: Scene) -> Outcome:
    """Against every demo account first, then against made-up ones as a list of addresses would have them."""
    source, reply = scene.new_source(), Reply(0)
    emails = [account.email for account in scene.accounts] * 4
    emails += [f"person{number}@{scene.trust_domain}" for number in range(120)]
    passwords = ("Password1!Password1!", "Summer2026!Summer2026!", "Welcome123Welcome123", "qwertyuiopqwertyuiop")
    for number, email in enumerate(emails):
        site = Site(scene)
        site.open("/auth/sign-in")
        form = site.form("password")
        if form is None:
            return got_through(f"there is no form: {site.page.said}", site.page.evidence)
        site.submit(form, {"email": email, "password": passwords[number // len(scene.accounts) % 4]})
        reply = site.page
        if "__Host-rempart-session" in site.cookies:
            return got_through(f"{email} has a common password", reply.evidence)
        if reply.status == 429:
            return blocked(f"429 at the {number + 1}th", "people: throttling", _FAILED)
    return got_through(f"{len(emails)} guesses from {source}, none slowed", reply.evidence)


def _spread(made: Registered) -> Outcome:
    scene, account = made.scene, made.owner
    scene.new_source()
    owner = _login(scene, account)
    if owner.status != 200:
        return not_tried(f"the owner was answered {owner.said}")

    def guess(number: int) -> Reply:
        scene.new_source()
        return scene.send("POST", "/login", {"email": account.email, "password": f"a guess of many: {number}"})

    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(guess, range(130)))
    if not any(reply.status == 429 for reply in replies[-20:]):
        return got_through(f"130 guesses, the last answered {replies[-1].said}", replies[-1].evidence)
    scene.new_source()
    back = _login(scene, account, device=owner.json.get("device"))
    if back.status != 200:
        return got_through(f"the owner on a known device was answered {back.said}", back.evidence)
    return blocked(f"{replies[-1].said}; the owner got in", "people: throttling", _FAILED)
