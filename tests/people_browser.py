"""A browser without a screen: keeps cookies, follows redirects inside the site, fills and posts HTML forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

_MOST_STEPS = 12


@dataclass
class Form:
    """`fields` hold what the page prefilled; `buttons` the named submit buttons, `(name, value)` in order."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is None or not given.get("name"):
            return
        elif (tag == "button" and given.get("type", "submit") == "submit") or given.get("type") == "submit":
            self._open.buttons.append((given["name"], given.get("value", "")))
        elif tag in ("input", "textarea", "select") and (
            given.get("type") not in ("checkbox", "radio") or "checked" in given
        ):
            self._open.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


def forms(html: str) -> list[Form]:
    parser = _Forms()
    parser.feed(html)
    return parser.forms


@dataclass
class Browser:
    """`http` keeps the cookies and must not follow redirects by itself."""

    http: httpx.Client
    url: str = ""
    page: httpx.Response | None = None
    seen: list[httpx.Response] = field(default_factory=list)

    def open(self, url: str) -> httpx.Response | str:
        """The page where it ends, or the address outside the site that it was sent to."""
        return self._follow("GET", url, None)

    def submit(
        self, answers: Mapping[str, str], *, form: Form | None = None, button: tuple[str, str] | None = None
    ) -> httpx.Response | str:
        """Post `form` (default: the page's first that has all the fields of `answers`), with `answers` over what was
        prefilled, by pressing `button` (default: its first named one)."""
        assert self.page is not None
        chosen = form or self.form_with(*answers)
        pressed = button or (chosen.buttons[0] if chosen.buttons else None)
        data = {**chosen.fields, **answers, **(dict([pressed]) if pressed else {})}
        return self._follow(chosen.method.upper(), urljoin(self.url, chosen.action), data)

    def form_with(self, *names: str) -> Form:
        assert self.page is not None
        found = [form for form in forms(self.page.text) if set(names) <= {*form.fields, *(n for n, _ in form.buttons)}]
        assert found, (names, self.url, self.page.status_code, self.page.text[:3000])
        return found[0]

    def buttons(self) -> list[tuple[str, str]]:
        return [button for form in forms(self.page.text) for button in form.buttons] if self.page else []

    def press(self, *values: str) -> httpx.Response | str:
        """Submit by the first button whose name or value is one of `values`."""
        assert self.page is not None
        for form in forms(self.page.text):
            for button in form.buttons:
                if set(button) & set(values):
                    return self.submit({}, form=form, button=button)
        raise AssertionError(f"no button {values}: {self.page.text[:3000]}")

    def _follow(self, method: str, url: str, data: Mapping[str, str] | None) -> httpx.Response | str:
        for _ in range(_MOST_STEPS):
            if urlsplit(url)[:2] != urlsplit(str(self.http.base_url))[:2]:
                return url
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
            if method == "GET":
                page = self.http.get(url, params=data or None, headers={"accept": "text/html"})
            else:
                page = self.http.post(url, data=dict(data or {}), headers={"accept": "text/html", "origin": origin})
            self.url, self.page = str(page.url), page
            self.seen.append(page)
            if not page.is_redirect:
                return page
            if page.status_code not in (307, 308):
                method, data = "GET", None
            url = urljoin(url, page.headers["location"])
        raise AssertionError(f"redirected {_MOST_STEPS} times, last to {url}")


def sign_in(browser: Browser, url: str, email: str, password: str, code: str = "") -> str:
    """Open `url` (an authorization request), sign in and allow where asked; the client's address it ends at."""
    at = browser.open(url)
    for _ in range(6):
        if isinstance(at, str):
            return at
        names = {name for form in forms(at.text) for name in form.fields}
        assert at.status_code in (200, 401, 403), (at.status_code, at.text[:2000])
        if "password" in names:
            user = "email" if "email" in names else "username"
            at = browser.submit({user: email, "password": password})
        elif code and (field := next((n for n in ("code", "otp", "totp") if n in names), None)):
            at, code = browser.submit({field: code}), ""
        else:
            at = browser.submit({}, form=_consent(at.text))
    raise AssertionError(f"the sign-in does not end: {browser.url}")


def _consent(html: str) -> Form:
    """The form whose button allows; a page's other forms (language, sign out) stay untouched."""
    for form in forms(html):
        for name, value in form.buttons:
            if value in ("allow", "approve", "yes", "accept", "continue"):
                form.buttons = [(name, value)]
                return form
    raise AssertionError(f"nothing to press here: {html[:2000]}")
