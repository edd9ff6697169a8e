"""How a page leaves: rendered from its template, with the headers that keep it ours alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from .assets import Assets
from .user_agents import short_name

if TYPE_CHECKING:
    from jinja2 import Environment

# What a form may lead to besides ourselves: an origin, or an application's own scheme, which has a dot
# (RFC 8252 section 7.1): `https:` or `data:` would let in far more than one client. An IPv6 address can't be written in
# a policy (CSP Level 3 section 2.3.1): such a client is reached over a page in between, see `Visit.leave_to`.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]{1,253}(?::\d{1,5})?")
_OWN_SCHEME = re.compile(r"([a-z][a-z0-9+-]{0,60}(?:\.[a-z0-9+-]{1,60})+:)(?://[a-z0-9.-]{0,253})?")

HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "vary": "accept-language, cookie",
}


def content_security_policy(form_targets: Sequence[str] = ()) -> str:
    """No inline script or style, nothing from elsewhere. Browsers hold `form-action` against redirects, too: where a
    form ends at a client, its origin is named; what does not look like one is left out: the browser then refuses."""
    targets = " ".join(["'self'", *filter(None, map(_source, form_targets))])
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
    )


def _source(target: str) -> str:
    if _ORIGIN.fullmatch(target):
        return target
    own = _OWN_SCHEME.fullmatch(target)
    return own[1] if own else ""


class Pages:
    """Templates are compiled once each, the first at the first page. `brand`: the name that people know us by;
    `least_length` of a password that stands alone."""

    def __init__(self, assets: Assets, brand: str, least_length: int) -> None:
        self._assets, self._brand, self._least_length = assets, brand, least_length

    @cached_property
    def _environment(self) -> Environment:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader(__package__ or "", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(
            asset=self._assets.path, brand=self._brand, least_length=self._least_length, agent=short_name
        )
        return environment

    def render(
        self, template: str, status: int = 200, *, form_targets: Sequence[str] = (), **values: Any
    ) -> HTMLResponse:
        body = self._environment.get_template(template + ".html").render(values)
        return HTMLResponse(body, status, {**HEADERS, "content-security-policy": content_security_policy(form_targets)})
