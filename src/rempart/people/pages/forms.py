"""That a form was sent from our own page, by the browser that our page was made for.

Two defences that don't share a weakness: what the browser says of where the request comes from (Fetch Metadata, or
`Origin` of older ones), and a token in the form that only who holds the browser's cookies can have been given.
"""

from __future__ import annotations

import base64
import hmac
import os
import re

from starlette.requests import Request

from rempart.kernel.errors import Denied
from rempart.people.requests import read_form

FORM_COOKIE = "__Host-rempart-form"
TOKEN_FIELD = "form_token"  # nosec B105 - the name of a field
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


def new_browser() -> str:
    """256 random bits that name a browser in its form cookie."""
    return _b64(os.urandom(32))


class FormGuard:
    """`key` authenticates form tokens and is no other purpose's; `origin` is our own, as browsers write it."""

    def __init__(self, key: bytes, origin: str) -> None:
        self._key, self._origin = key, origin

    @staticmethod
    def browser(request: Request) -> str | None:
        cookie = request.cookies.get(FORM_COOKIE, "")
        return cookie if _COOKIE.fullmatch(cookie) else None

    def token(self, browser: str, session: str) -> str:
        """Good for one browser and one session (or none): a new session id makes every older form stale."""
        return _b64(hmac.digest(self._key, f"{browser} {session}".encode(), "sha256"))

    async def read(self, request: Request, session: str) -> dict[str, str]:
        """The form. Raises Denied `foreign_form`, `stale_form`; BadInput `invalid_request`, `body_too_large`."""
        self._check_source(request)
        form = await read_form(request)
        browser = self.browser(request)
        expected = self.token(browser or "", session)
        if browser is None or not hmac.compare_digest(expected.encode(), form.pop(TOKEN_FIELD, "").encode()):
            raise Denied("stale_form", "the form was not made for this browser, or too long ago", "open it again")
        return form

    def _check_source(self, request: Request) -> None:
        """Where a browser says both, Fetch Metadata counts: with `no-referrer` it sends `Origin: null`, even to us."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site != "same-origin" if site is not None else origin not in (None, self._origin):
            raise Denied("foreign_form", "the form was sent from another site", "open the page itself")
        if site is not None and origin not in (None, "null", self._origin):
            raise Denied("foreign_form", "the form was sent from another site", "open the page itself")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
