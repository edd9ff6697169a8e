"""A browser in the adversary's hands: cookies, redirects and HTML forms of the identity provider's pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from .scene import Headers, Scene
from .wire import Reply

_MOST_STEPS = 10
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
        elif not self.forms or not given.get("name"):
            return
        elif tag == "button" or given.get("type") == "submit":
            self.forms[-1].buttons.append((given["name"], given.get("value", "")))
        elif tag in ("input", "textarea", "select"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")


@dataclass
class Site:
    """`url` and `page` are where it is; requests come from one address unless `scene` is told otherwise."""

    scene: Scene
    cookies: dict[str, str] = field(default_factory=dict)
    url: str = ""
    offered: str = ""  # what the last sign-in said of binding its session to a key of the device
    page: Reply = field(default_factory=lambda: Reply(0))

    @property
    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.page.body.decode("utf-8", "replace"))
        return parser.forms

    def form(self, *names: str) -> Form | None:
        """The first form of the page that has all these fields."""
        return next((form for form in self.forms if set(names) <= set(form.fields)), None)

    def ask(self, method: str, url: str, body: Mapping[str, str] | None = None, headers: Headers = ()) -> Reply:
        """One request, no redirect followed; cookies are kept as a browser keeps them."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own: list[tuple[str, str]] = [("Accept", "text/html")]
        if self.cookies:
            own.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        data = urlencode(body).encode() if body is not None else None
        if data is not None:
            own.append(_FORM)
            if not any(name.lower() == "origin" for name, _ in headers):
                own.append(("Origin", self.origin))
        reply = self.scene.ask(method, target, (*own, *headers), data)
        self.offered = reply.headers.get("secure-session-registration", self.offered)
        for line in reply.set_cookies:
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower() or not value:
                self.cookies.pop(name.strip(), None)
            else:
                self.cookies[name.strip()] = value.strip()
        return reply

    @property
    def origin(self) -> str:
        return "{0.scheme}://{0.netloc}".format(urlsplit(self.scene.issuer))

    def open(self, url: str, body: Mapping[str, str] | None = None) -> str:
        """Follow redirects inside the site; where it ends: "" on a page of the site, else the address outside."""
        method = "GET" if body is None else "POST"
        url = urljoin(self.origin + "/", url)
        for _ in range(_MOST_STEPS):
            if not url.startswith(self.origin + "/"):
                return url
            self.url, self.page = url, self.ask(method, url, body)
            if self.page.status not in (301, 302, 303, 307, 308):
                return ""
            method, body = "GET", None
            url = urljoin(url, self.page.headers.get("location", ""))
        return ""

    def submit(self, form: Form, answers: Mapping[str, str], button: tuple[str, str] | None = None) -> str:
        pressed = button or next(iter(form.buttons), None)
        return self.open(
            urljoin(self.url, form.action), {**form.fields, **answers, **(dict([pressed]) if pressed else {})}
        )

    def sign_in(self, url: str, email: str, password: str, code: str = "") -> str:
        """Through the pages to where the request at `url` leads: "" when it stays on a page, which `page` then is."""
        at = self.open(url)
        for _ in range(5):
            if at:
                return at
            if form := self.form("password"):
                if self.page.status != 200:
                    return ""
                at = self.submit(form, {"email" if "email" in form.fields else "username": email, "password": password})
                if not at and self.form("password"):
                    return ""
            elif code and (form := self.form("code")):
                at, code = self.submit(form, {"code": code}), ""
            elif approving := self._approving():
                at = self.submit(*approving)
            else:
                return ""
        return at

    def _approving(self) -> tuple[Form, Mapping[str, str], tuple[str, str]] | None:
        for form in self.forms:
            for button in form.buttons:
                if button[1] in ("allow", "approve", "yes", "continue"):
                    return form, {}, button
        return None
