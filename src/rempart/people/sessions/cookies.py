"""The cookie of a browser's session. `__Host-`: this host alone, over TLS alone (RFC 6265bis section 4.1.3.2).

`Lax`, so that a link from elsewhere still finds who is signed in; no Max-Age, since the server decides when it ends.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from rempart.people.requests import DEVICE_PROOF_COOKIE

SESSION_COOKIE = "__Host-rempart-session"


def set_session(response: Response, token: str) -> None:
    response.set_cookie(SESSION_COOKIE, token, path="/", secure=True, httponly=True, samesite="lax")


def clear_session(response: Response) -> None:
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def set_device_proof(response: Response, proof: str, life: int) -> None:
    """`life` in seconds: without it the browser has its device's key sign for the next one."""
    response.set_cookie(DEVICE_PROOF_COOKIE, proof, life, path="/", secure=True, httponly=True, samesite="lax")


def token_of(request: Request) -> str | None:
    """None, too, where it is there twice: no browser sends that of a `__Host-` name, so one was put there."""
    pairs = (pair for line in request.headers.getlist("cookie") for pair in line.split(";"))
    held = sum(pair.strip().startswith(f"{SESSION_COOKIE}=") for pair in pairs)
    return request.cookies.get(SESSION_COOKIE) if held == 1 else None
