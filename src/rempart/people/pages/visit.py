"""One request for a page: in which language, by whom, from which browser; and how it is answered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rempart.kernel.clock import Clock
from rempart.kernel.errors import NotFound, RempartError, Throttled, Unauthenticated
from rempart.people.model import Origin
from rempart.people.requests import Origins
from rempart.people.sessions.cookies import SESSION_COOKIE, token_of

from .forms import FORM_COOKIE, FormGuard, new_browser
from .languages import LANGUAGE_COOKIE, LANGUAGES, Texts, choose
from .model import Entered, HalfDone, SignedIn
from .page import HEADERS, Pages
from .ports import BrowserSessions

STEP_COOKIE = "__Host-rempart-step"
DEVICE_COOKIE = "__Host-rempart-device"
SIGN_IN = "/auth/sign-in"
ACCOUNT = "/auth/account"
RECENT = 570.0  # seconds since the last proof, for changing what proves one: the factors' room takes ten minutes
_YEAR = 365 * 86400
_STEP_LIFE = 600
_NEXT = re.compile(r"/auth/(?:account(?:/[a-z-]{1,20})?|device(?:\?user_code=[A-Za-z0-9-]{1,20})?)")
_HANDLE = re.compile(r"[A-Za-z0-9._~-]{8,200}")
_NAME = re.compile(r"[!-~]{1,200}")
_STEP = re.compile(r"[A-Za-z0-9._~-]{8,2000}")


class SignInNeeded(Exception):
    """Nobody is signed in, or not lately enough: sent to prove it, and back."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a form: the id of the field it concerns ("" for none), and the text for it."""

    field: str
    text: str


@dataclass
class Visit:
    request: Request
    origin: Origin
    texts: Texts
    who: SignedIn | None
    browser: str
    pages: Pages
    guard: FormGuard
    clock: Clock
    session: str
    """What the browser's session cookie holds, or will with this answer; "" for nothing that we made."""
    here: str = ""
    cookies: list[dict[str, Any]] = field(default_factory=list)

    def query(self, name: str) -> str:
        return self.request.query_params.get(name, "")

    @staticmethod
    def identifier(text: str) -> str:
        """What a form names something of ours by. Raises NotFound for what can't be the name of anything."""
        if not _NAME.fullmatch(text):
            raise NotFound("no_such_thing", "there is nothing of that name")
        return text

    def handle(self, name: str) -> str:
        """A handle of ours out of the query, "" when it is none."""
        return self.query(name) if _HANDLE.fullmatch(self.query(name)) else ""

    def next(self) -> str:
        """Where to go after signing in: only pages that we know, since strangers write links, too."""
        return self.query("next") if _NEXT.fullmatch(self.query("next")) else ACCOUNT

    def prefer(self, ui_locales: str) -> None:
        """What the client asks for, where the person chose nothing (OpenID Connect Core section 3.1.2.1)."""
        self.texts = Texts(_language(self.request, ui_locales))

    def person(self, *, recently: bool = False) -> SignedIn:
        """Raises SignInNeeded."""
        if self.who is None or (recently and self.clock.now() - self.who.auth_time > RECENT):
            raise SignInNeeded
        return self.who

    async def form(self) -> dict[str, str]:
        return await self.guard.read(self.request, self.session)

    def show(
        self,
        template: str,
        *,
        status: int = 200,
        problems: Sequence[Problem] = (),
        form_targets: Sequence[str] = (),
        **values: Any,
    ) -> Response:
        response = self.pages.render(
            template,
            status,
            form_targets=form_targets,
            t=self.texts,
            lang=self.texts.language,
            languages=[(code, name, self._in_language(code)) for code, name in LANGUAGES.items()],
            who=self.who,
            here=self.here or self.request.url.path,
            form_token=self.guard.token(self.browser, self.session),
            problems=problems,
            handle=self.handle("interaction"),
            done=self.query("done") if self.texts.has(f"done.{self.query('done')[:40]}") else "",
            **values,
        )
        return self._with_cookies(response)

    def go(self, url: str) -> Response:
        """See other: reloading the next page repeats nothing (RFC 9110 section 15.4.4)."""
        return self._with_cookies(RedirectResponse(url, 303, HEADERS))

    def leave_to(self, response: Response) -> Response:
        """An answer that another room made, with the cookies of this visit.

        No policy can let a form end at an IPv6 address: there a page takes over, which goes on by itself."""
        url = response.headers.get("location", "")
        if url.startswith("http://["):
            return self.show("onward", url=url)
        return self._with_cookies(response)

    def problem(self, error: RempartError, field: str = "") -> Problem:
        return Problem(field, self.reason(error))

    def reason(self, error: RempartError) -> str:
        """The catalogue's text for it: reasons in English, or with what others wrote in them, stay outside.

        Raises SignInNeeded where a proof must be fresh."""
        if error.code == "proof_too_old":
            raise SignInNeeded
        if isinstance(error, Throttled):
            return self.texts.plain("error.throttled", seconds=error.retry_after)
        key = f"error.{error.code}"
        by_status = (f"error.status.{error.status}", f"error.status.{error.status // 100 * 100}")
        return self.texts.plain(next(name for name in (key, *by_status) if self.texts.has(name)))

    def refused(self, error: RempartError) -> Response:
        response = self.show("error", status=error.status, reason=self.reason(error), code=error.code)
        if isinstance(error, Throttled):
            response.headers["retry-after"] = str(error.retry_after)
        return response

    def enter(self, entered: Entered) -> None:
        """The new session's cookie; the step is over."""
        self._set(SESSION_COOKIE, entered.token)
        self.session = entered.token
        if self.request.cookies.get(STEP_COOKIE):
            self._set(STEP_COOKIE, "", max_age=0)
        if entered.device is not None:
            self._set(DEVICE_COOKIE, entered.device, max_age=_YEAR, samesite="strict")

    def half_way(self, half: HalfDone) -> None:
        self._set(STEP_COOKIE, half.step, max_age=_STEP_LIFE)

    def exit(self) -> None:
        self._set(SESSION_COOKIE, "", max_age=0)
        self.who, self.session = None, ""

    @property
    def step(self) -> str:
        """The half-done sign-in of this browser; "" for none."""
        found = self.request.cookies.get(STEP_COOKIE, "")
        return found if _STEP.fullmatch(found) else ""

    @property
    def device(self) -> str | None:
        return self.request.cookies.get(DEVICE_COOKIE)

    def _in_language(self, code: str) -> str:
        kept = {name: value[:400] for name, value in self.request.query_params.items() if name != "lang"}
        return f"{self.here or self.request.url.path}?{urlencode({**kept, 'lang': code})}"

    def _set(self, name: str, value: str, *, max_age: int | None = None, samesite: str = "lax") -> None:
        cookie = {"key": name, "value": value, "max_age": max_age, "samesite": samesite}
        self.cookies.append({**cookie, "path": "/", "secure": True, "httponly": True})

    def _with_cookies(self, response: Response) -> Response:
        if self.guard.browser(self.request) != self.browser:
            self._set(FORM_COOKIE, self.browser)
        if self.query("lang") in LANGUAGES:
            self._set(LANGUAGE_COOKIE, self.query("lang"), max_age=_YEAR)
        for cookie in self.cookies:
            response.set_cookie(**cookie)
        return response


Handler = Callable[[Visit], Awaitable[Response]]


class Door:
    """Makes a visit of a request, and an HTML page of every refusal."""

    def __init__(
        self, pages: Pages, guard: FormGuard, sessions: BrowserSessions, origins: Origins, clock: Clock
    ) -> None:
        self._pages, self._guard, self._sessions, self._origins, self._clock = pages, guard, sessions, origins, clock

    def __call__(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if request.method == "HEAD":  # some pages act when they are opened: nothing that only looks may do that
                return Response(headers=HEADERS)
            visit = self._visit(request)
            try:
                visit.origin = self._origins.of(request)
                if visit.session:
                    visit.who = await self._sessions.find(visit.session, visit.origin)
                try:
                    return await handler(visit)
                except Unauthenticated as error:
                    visit.reason(error)  # where a proof must be fresh this is a SignInNeeded
                    raise
            except SignInNeeded:
                again = {"again": "1"} if visit.who else {}
                return visit.go(f"{SIGN_IN}?{urlencode({'next': request.url.path, **again})}")
            except RempartError as error:
                return visit.refused(error)

        return endpoint

    def _visit(self, request: Request) -> Visit:
        browser = self._guard.browser(request) or new_browser()
        held = token_of(request) or ""
        session = held if _HANDLE.fullmatch(held) else ""
        texts = Texts(_language(request, ""))
        return Visit(request, Origin(), texts, None, browser, self._pages, self._guard, self._clock, session)


def _language(request: Request, ui_locales: str) -> str:
    return choose(
        asked=request.query_params.get("lang"),
        kept=request.cookies.get(LANGUAGE_COOKIE),
        ui_locales=ui_locales or request.query_params.get("ui_locales", ""),
        accept=request.headers.get("accept-language", ""),
    )
