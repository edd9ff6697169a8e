"""The sequencer's face for the operator: everything that is read, and what changes the record's own affairs."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

import msgspec

from rempart.kernel.errors import BadInput, MethodNotAllowed, NotFound
from rempart.protocols.http_pages import NO_CONTENT, Ask, Handler, Page

from .administration import RecordAdministration
from .api import Service, answered, index_state, reading
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


def administration(service: Administration) -> Handler:
    """As `api.reading`, and POST `/log-keys/rotate`, `/index/rebuild`, `/persons/{id}/erase`, `/holds`,
    `/holds/{id}/lift`, `/prune`, `/events` (as programs tell them, under the operator's name); GET `/log-keys`,
    `/holds`.
    """

    read, admin = reading(service), service.administration

    async def answer(ask: Ask) -> Page:
        path, operator = ask.path, ask.client
        if ask.method in ("GET", "HEAD"):
            if path not in _OWN:
                return await read(ask)
            return answered(admin.log_keys() if path == "/log-keys" else {"holds": admin.holds()})
        if ask.method != "POST":
            raise MethodNotAllowed("bad_method", "nothing is done by this method", "use GET or POST")
        body = await ask.body(_MAX_BODY)
        if path == "/log-keys/rotate":
            wanted = _decoded(body, _Rotation)
            if not 0 <= wanted.overlap <= 366 * 86_400:
                raise BadInput("bad_overlap", "the overlap is not from 0 seconds to a year")
            return answered(await admin.rotate_log_key(operator, wanted.overlap))
        if path == "/index/rebuild":
            service.sequencer.rebuild_index()
            return answered(index_state(service.sequencer))
        if path == "/events":
            await service.keep(read_events(body, None, types_with(RECORDS), operator))
            return NO_CONTENT
        if path == "/prune":
            asked = _decoded(body, _Prune)
            return answered(await admin.prune(operator, dry=asked.dry, taken=asked.taken))
        if path == "/holds":
            hold = _decoded(body, Hold)
            if not _ID.fullmatch(hold.id) or not hold.can_cover:
                why = "a hold has an id of letters and digits, and says what it holds: a type of event must be one"
                raise BadInput("bad_hold", why, "docs/events.md has all types; `money.` are all that begin so")
            return answered(await admin.put_hold(operator, hold))
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "holds" and parts[3] == "lift":
            return answered(await admin.lift_hold(operator, parts[2]))
        if len(parts) == 4 and parts[1] == "persons" and parts[3] == "erase" and 0 < len(parts[2]) <= 128:
            return answered(await admin.erase_person(operator, parts[2]))
        raise NotFound("no_such_resource", "nothing is at this path", "see docs/audit.md")

    return answer


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_body", f"the body is not what is expected here: {error}"[:300]) from None
