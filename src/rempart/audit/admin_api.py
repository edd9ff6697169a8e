"""The sequencer's face for the operator: everything that is read, and what changes the record's own affairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.kernel.errors import BadInput, NotFound

from .api import MethodNotAllowed, Service, index_state, json_response, reading_app, served

_MAX_BODY = 1 << 16
T = TypeVar("T")


class Administration(Service, Protocol):
    """`operator` is the local user who asked (`uid:0`). Every change is recorded durably before it is made."""

    async def rotate_log_key(self, operator: str, overlap: float) -> Mapping[str, Any]: ...

    async def erase_person(self, operator: str, person: str) -> Mapping[str, Any]: ...

    def log_keys(self) -> Mapping[str, Any]: ...


class _Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`overlap` in seconds: how long the old key signs as well."""

    overlap: float = 7 * 86_400.0


def admin_app(service: Administration) -> ASGIApp:
    """As `api.reading_app`, and POST `/log-keys/rotate`, `/index/rebuild`, `/persons/{id}/erase`; GET `/log-keys`."""

    reading = reading_app(service)

    async def answer(request: Request) -> Response:
        path = request.scope["path"]
        if request.method == "GET":
            return json_response(service.log_keys())
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
            return json_response(await service.rotate_log_key(operator, wanted.overlap))
        if path == "/index/rebuild":
            service.sequencer.rebuild_index()
            return json_response(index_state(service.sequencer))
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "persons" and parts[3] == "erase" and 0 < len(parts[2]) <= 128:
            return json_response(await service.erase_person(operator, parts[2]))
        raise NotFound("no_such_resource", "nothing is at this path", "see docs/audit.md")

    own = served(answer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] != "/log-keys"
        await (reading if is_read else own)(scope, receive, send)

    return app


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_body", f"the body is not what is expected here: {error}"[:300]) from None
