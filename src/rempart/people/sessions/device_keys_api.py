"""The two addresses by which a browser binds its session to a key of its device, and proves that key again.

W3C Device Bound Session Credentials: an answer that sets a session's cookie offers to register a key; the browser posts
its proof to `BIND`, gets a short cookie, and posts the next proof to `REFRESH` before that ends. A browser that knows
nothing of it ignores the offer and is held to signals of its place. Nothing here takes a body or a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rempart.crypto.dbsc import ALGORITHMS, DeviceKey, NotProved, read_refresh, read_registration
from rempart.crypto.dpop import origin_of
from rempart.crypto.jws import Malformed
from rempart.kernel.errors import BadInput, Conflict, Unauthenticated

from ..model import Origin
from ..requests import DEVICE_PROOF_COOKIE, Origins, no_store
from .cookies import SESSION_COOKIE, clear_session, set_device_proof, token_of
from .device_keys import PROOF_LIFE, DeviceKeys
from .model import Kind, Session
from .service import Sessions

BIND, REFRESH = "/auth/session/bind", "/auth/session/refresh"
_PROOF, _ID = "secure-session-response", "sec-secure-session-id"
_STRING = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]*)"(?:;.*)?')  # sf-string (RFC 9651 section 3.3.3), no escapes
_NAME = re.compile(r"ses_[0-9a-z]{26}\.[A-Za-z0-9_-]{12}")
_GIVEN = re.compile(rb"(?i)" + SESSION_COOKIE.encode() + rb"=([A-Za-z0-9_-]{43});")
_TAKEN = f"{SESSION_COOKIE}=".encode().lower()


class DeviceKeysFace:
    """`issuer` tells the origin that sessions are for."""

    def __init__(self, sessions: Sessions, keys: DeviceKeys, origins: Origins, *, issuer: str) -> None:
        self._sessions, self._keys, self._origins = sessions, keys, origins
        self._origin = origin_of(issuer)

    def routes(self) -> list[BaseRoute]:
        return [Route(BIND, self.bind, methods=["POST"]), Route(REFRESH, self.refresh, methods=["POST"])]

    async def bind(self, request: Request) -> Response:
        """Raises Unauthenticated `missing_session`, Conflict `already_bound`, BadInput `invalid_device_proof`."""
        origin = self._origins.of(request)
        token = token_of(request)
        session = await self._sessions.current(request, origin) if token else None
        if session is None or token is None or session.kind is not Kind.WEB:
            raise Unauthenticated("missing_session", "nobody is signed in here", "sign in")
        if session.key is not None:
            raise Conflict("already_bound", "this session is bound to a key", "sign in again")
        try:
            key, challenge = read_registration(_string(request, _PROOF))
        except Malformed as error:
            raise _bad(str(error)) from None
        if not await self._keys.takes_new(challenge, token):
            raise _bad("its challenge is over, or is not for this session")
        bound = await self._sessions.bind(token, session, key, origin)
        if bound is None:
            raise Unauthenticated("missing_session", "the session ended", "sign in")
        return self._instructions(bound)

    async def refresh(self, request: Request) -> Response:
        """403 with a challenge where the proof is missing or for one that is over. Raises BadInput."""
        origin = self._origins.of(request)
        wanted = _string(request, _ID)  # no script can send a header of that name: the browser itself asks
        if not _NAME.fullmatch(wanted):
            raise BadInput("no_such_session", "this names no session")
        token = token_of(request)
        session = await self._sessions.held(token) if token else None
        if session is None or _name(session) != wanted or not session.device_key:
            return _over(wanted)
        if not request.headers.get(_PROOF):
            return self._challenge(session)
        return await self._proved(request, session, origin)

    async def _proved(self, request: Request, session: Session, origin: Origin) -> Response:
        try:
            challenge = read_refresh(_string(request, _PROOF), DeviceKey(str(session.key), session.device_key))
        except Malformed as error:
            raise _bad(str(error)) from None
        except NotProved:
            await self._sessions.end_in_other_hands(session, origin)
            response = _over(_name(session))
            clear_session(response)
            return response
        if not await self._keys.takes(challenge, session):
            return self._challenge(session)
        return self._instructions(session)

    def _challenge(self, session: Session) -> Response:
        return Response(status_code=403, headers={**no_store(), **self._next(session)})

    def _next(self, session: Session) -> dict[str, str]:
        return {"secure-session-challenge": f'"{self._keys.challenge(session)}";id="{_name(session)}"'}

    def _instructions(self, session: Session) -> Response:
        """Which cookie is the short one, and for which paths the browser must have it."""
        host = urlsplit(self._origin).hostname or ""
        rules = [{"type": "exclude", "domain": host, "path": "/"}, {"type": "include", "domain": host, "path": "/auth"}]
        document: Mapping[str, Any] = {
            "session_identifier": _name(session),
            "refresh_url": REFRESH,
            "allowed_refresh_initiators": ["*"],  # applications anywhere send their people here
            "scope": {"origin": self._origin, "include_site": False, "scope_specification": rules},
            "credentials": [
                {
                    "type": "cookie",
                    "name": DEVICE_PROOF_COOKIE,
                    "attributes": "Path=/; Secure; HttpOnly; SameSite=Lax",
                }
            ],
        }
        response = JSONResponse(document, headers={**no_store(), **self._next(session)})
        set_device_proof(response, self._keys.proof(session), PROOF_LIFE)
        return response


class OffersBinding:
    """Around the application: whatever answer gives a browser a session's cookie offers to bind it, and what takes it
    away takes the short one along."""

    def __init__(self, app: ASGIApp, keys: DeviceKeys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in message.get("headers", ()):
                    if name.lower() == b"set-cookie" and value.lower().startswith(_TAKEN):
                        self._beside(MutableHeaders(scope=message), _GIVEN.match(value))
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)

    def _beside(self, headers: MutableHeaders, given: re.Match[bytes] | None) -> None:
        if given is None:
            taken = f"{DEVICE_PROOF_COOKIE}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=lax"
            headers.append("set-cookie", taken)
            return
        challenge = self._keys.challenge_for_new(given[1].decode())
        algorithms = " ".join(ALGORITHMS)
        headers["secure-session-registration"] = f'({algorithms});path="{BIND}";challenge="{challenge}"'


def _name(session: Session) -> str:
    """Of this session with this key: one that is bound anew is another one to the browser."""
    return f"{session.id}.{str(session.key)[:12]}"


def _over(name: str) -> Response:
    """There is no such session any more: the browser forgets its key."""
    return JSONResponse({"session_identifier": name, "continue": False}, headers=no_store())


def _string(request: Request, header: str) -> str:
    """Raises BadInput `invalid_device_proof`."""
    values = request.headers.getlist(header)
    if len(values) != 1:
        raise _bad(f"{header} is missing, or there twice")
    found = _STRING.fullmatch(values[0].strip())
    return found[1] if found else values[0].strip()  # early browsers sent it without quotes


def _bad(why: str) -> BadInput:
    return BadInput("invalid_device_proof", f"the proof of the device's key is refused: {why}")
