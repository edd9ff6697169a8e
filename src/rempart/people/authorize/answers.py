"""Answers that go through a browser: redirects, self-posting forms, and errors that no address may be sent."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from rempart.kernel.errors import BadInput, RempartError, Throttled

from ..pages.languages import DEFAULT, LANGUAGE_COOKIE, Texts, choose
from ..requests import Endpoint, oauth, read_body
from .model import Outgoing
from .ports import KeyProofs
from .redirects import source_of, with_parameters

_FORM = "application/x-www-form-urlencoded"
FORM_POST_SCRIPT = "document.forms[0].submit();\n"
_HEADERS = {
    "cache-control": "no-store",
    "pragma": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_SLUG = re.compile(r"[^a-z0-9]+")


def respond(request: Request, outgoing: Outgoing, *, script: str) -> Response:
    """A 303 (RFC 9700 section 4.12), or the page of OAuth 2.0 Form Post Response Mode; `script`: where its script is.

    Without JavaScript a button does what the script does.
    """
    if outgoing.mode != "form_post":
        return RedirectResponse(with_parameters(outgoing.redirect_uri, outgoing.parameters), 303, headers=_HEADERS)
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in outgoing.parameters.items()
    )
    texts = texts_of(request)
    button = html.escape(texts.plain("request.continue"))
    body = (
        f'<form method="post" action="{html.escape(outgoing.redirect_uri)}">{fields}'
        f'<button type="submit">{button}</button></form><script src="{html.escape(script)}"></script>'
    )
    return _page(texts.language, button, body, script="'self'", action=source_of(outgoing.redirect_uri))


def redirect(path: str, parameters: Mapping[str, str]) -> Response:
    """To a page of our own."""
    return RedirectResponse(with_parameters(path, parameters), 303, headers=_HEADERS)


def error_page(request: Request, error: RempartError) -> Response:
    """For what must not be redirected (RFC 9700 section 4.11)."""
    texts = texts_of(request)
    title, advice = (html.escape(texts.plain(f"request.{what}")) for what in ("title", "advice"))
    body = (
        f"<h1>{title}</h1><p>{html.escape(_reason(texts, error))}</p><p>{advice}</p>"
        f"<p><code>{html.escape(error.code)}</code></p>"
    )
    response = _page(texts.language, title, body, status=error.status)
    if isinstance(error, Throttled):
        response.headers["retry-after"] = str(error.retry_after)
    return response


def proving(endpoint: Endpoint, proofs: KeyProofs) -> Endpoint:
    """An OAuth endpoint that takes DPoP proofs: who sends one hears the nonce for the next (RFC 9449 section 8)."""
    answering = oauth(endpoint)

    async def answer(request: Request) -> Response:
        response = await answering(request)
        if "dpop" in request.headers:
            response.headers["dpop-nonce"] = proofs.nonce()
        return response

    return answer


async def raw_parameters(request: Request) -> bytes:
    """The query of a GET, the form of a POST. BadInput `invalid_request`, `body_too_large`."""
    if request.method != "POST":
        return bytes(request.scope.get("query_string", b""))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise BadInput("invalid_request", f"the body must be {_FORM}")
    return await read_body(request)


def texts_of(request: Request) -> Texts:
    """In the language that pages would choose for this visitor."""
    query = request.query_params
    return Texts(
        choose(
            asked=query.get("lang"),
            kept=request.cookies.get(LANGUAGE_COOKIE),
            ui_locales=query.get("ui_locales", ""),
            accept=request.headers.get("accept-language", ""),
        )
    )


def reason_key(reason: str) -> str:
    """Of the catalogue's text for a reason that we give ourselves."""
    return "request." + _SLUG.sub("_", reason.lower()).strip("_")


def _reason(texts: Texts, error: RempartError) -> str:
    """The catalogue's text; for what has none in English the reason itself, else what its status means."""
    if isinstance(error, Throttled):
        return texts.plain("request.waiting", seconds=error.retry_after)
    for key in (reason_key(error.reason), f"error.{error.code}"):
        if texts.has(key):
            return texts.plain(key)
    return error.reason if texts.language == DEFAULT else texts.plain(f"error.status.{error.status}")


def _page(
    language: str, title: str, body: str, *, status: int = 200, script: str = "'none'", action: str = "'none'"
) -> Response:
    policy = (
        f"default-src 'none'; style-src 'self'; img-src 'self'; script-src {script}; form-action {action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
    document = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        '<link rel="icon" href="/auth/static/mark.svg"><link rel="stylesheet" href="/auth/static/pages.css"></head>'
        f'<body><main class="card">{body}</main></body></html>'
    )
    return HTMLResponse(document, status, {**_HEADERS, "content-security-policy": policy})
