"""The sequencer's face for the operator: everything that is read, and what changes the record's own affairs."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.kernel.errors import BadInput, NotFound
from rempart.protocols.http_answers import MethodNotAllowed, json_response, served

from .administration import RecordAdministration
from .api import Service, index_state, reading_app
from .intake import RECORDS, read_events, types_with
from .retention import Hold

_MAX_BODY = 1 << 16
_OWN = ("/log-keys", "/holds")  # read here and not by everybody who reads
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
T = TypeVar("T")


class Administration(Service, Protocol):
    administration: RecordAdministration


class _Prune(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`taken`: how many events of the log every sink has; without, no sink is waited for."""

    dry: bool = False
    taken: int | None = None


class _Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`overlap` in seconds: how long the old key signs as well."""

    overlap: float = 7 * 86_400.0


def admin_app(service: Administration) -> ASGIApp:
    """As `api.reading_app`, and POST `/log-keys/rotate`, `/index/rebuild`, `/persons/{id}/erase`, `/holds`,
    `/holds/{id}/lift`, `/prune`, `/events` (as programs tell them, under the operator's name); GET `/log-keys`,
    `/holds`.
    """

    reading, admin = reading_app(service), service.administration

    async def answer(request: Request) -> Response:
        path = request.scope["path"]
        if request.method == "GET":
            return json_response(admin.log_keys() if path == "/log-keys" else {"holds": admin.holds()})
        if request.method != "POST":
            raise MethodNotAllowed("bad_method", "nothing is done by this method", "use GET or POST")
        operator = request.client.host if request.client else ""
        body = await request.body()
        if len(body) > _MAX_BODY:
            raise BadInput("body_too_large", f"more than {_MAX_BODY} bytes")
        if path == "/log-keys/rotate":
            wanted = _decoded(body, _Rotation)
            if not 0 <= wanted.overlap <= 366 * 86_400:
                raise BadInput("bad_overlap", "the overlap is not from 0 seconds to a year")
            return json_response(await admin.rotate_log_key(operator, wanted.overlap))
        if path == "/index/rebuild":
            service.sequencer.rebuild_index()
            return json_response(index_state(service.sequencer))
        if path == "/events":
            await service.keep(read_events(body, None, types_with(RECORDS), operator))
            return Response(status_code=204)
        if path == "/prune":
            asked = _decoded(body, _Prune)
            return json_response(await admin.prune(operator, dry=asked.dry, taken=asked.taken))
        if path == "/holds":
            hold = _decoded(body, Hold)
            if not _ID.fullmatch(hold.id) or not hold.can_cover:
                why = "a hold has an id of letters and digits, and says what it holds: a type of event must be one"
                raise BadInput("bad_hold", why, "docs/events.md has all types; `money.` are all that begin so")
            return json_response(await admin.put_hold(operator, hold))
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "holds" and parts[3] == "lift":
            return json_response(await admin.lift_hold(operator, parts[2]))
        if len(parts) == 4 and parts[1] == "persons" and parts[3] == "erase" and 0 < len(parts[2]) <= 128:
            return json_response(await admin.erase_person(operator, parts[2]))
        raise NotFound("no_such_resource", "nothing is at this path", "see docs/audit.md")

    own = served(answer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] not in _OWN
        await (reading if is_read else own)(scope, receive, send)

    return app


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_body", f"the body is not what is expected here: {error}"[:300]) from None
