"""The notifier's face for the operator: incidents, silences, channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from rempart.kernel.errors import BadInput, NotFound
from rempart.protocols.http_answers import json_response, served
from rempart.telemetry.exposition import CONTENT_TYPE, Exposition, Kind

from .delivery import Delivery
from .desk import Desk
from .model import Standing

_MAX_BODY = 1 << 14
_MAX_TEXT = 500
T = TypeVar("T")


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: str = ""


class _Silence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`seconds` from now."""

    why: str
    seconds: float
    rule: str = ""
    principal: str = ""


def desk_app(desk: Desk, metrics: Callable[[], str]) -> ASGIApp:
    """GET `/incidents[?standing=]`, `/incidents/{id}`, `/silences`, `/channels`, `/metrics`, `/healthz`;
    POST `/incidents/{id}/acknowledge|resolve`, `/silences`, `/channels/{name}/test`; DELETE `/silences/{id}`."""

    async def answer(request: Request) -> Response:
        parts = request.scope["path"].strip("/").split("/")
        operator = request.client.host if request.client else ""
        match (request.method, *parts):
            case ("GET", "healthz"):
                return json_response({"ready": True})
            case ("GET", "metrics"):
                return Response(metrics(), media_type=CONTENT_TYPE)
            case ("GET", "incidents"):
                return json_response({"incidents": _listed(desk, request.query_params.get("standing", ""))})
            case ("GET", "incidents", id):
                return json_response(desk.incidents.find(id).document())
            case ("POST", "incidents", id, "acknowledge" | "resolve" as verb):
                note = (await _body(request, _Note)).note[:_MAX_TEXT]
                change = desk.acknowledge if verb == "acknowledge" else desk.resolve
                return json_response((await change(id, operator, note)).document())
            case ("GET", "silences"):
                return json_response({"silences": msgspec.to_builtins(list(desk.incidents.silences.values()))})
            case ("POST", "silences"):
                wanted = await _body(request, _Silence)
                if max(map(len, (wanted.why, wanted.rule, wanted.principal))) > _MAX_TEXT:
                    raise BadInput("bad_silence", f"a text is longer than {_MAX_TEXT} characters")
                silence = await desk.silence(operator, wanted.why, wanted.seconds, wanted.rule, wanted.principal)
                return json_response(msgspec.to_builtins(silence), 201)
            case ("DELETE", "silences", id):
                return json_response(msgspec.to_builtins(await desk.unsilence(id, operator)))
            case ("GET", "channels"):
                return json_response({"channels": [_channel(one) for one in desk.deliveries], "read": desk.cursor})
            case ("POST", "channels", name, "test"):
                return json_response({"notice": desk.test(name).id}, 202)
        raise NotFound("no_such_resource", "nothing is at this path", "see docs/alerts.md")

    return served(answer)


def page(desk: Desk) -> str:
    """Prometheus's text format 0.0.4."""
    to, counts = Exposition(), dict.fromkeys(Standing, 0)
    for incident in desk.incidents.incidents.values():
        counts[incident.standing] += 1
    standings = [({"standing": str(standing)}, count) for standing, count in counts.items()]
    to.family("rempart_incidents", "gauge", "Incidents that are kept, by standing", standings)
    behind = max(0, desk.size - desk.cursor)
    to.single("rempart_notifier_lag_events", "gauge", "Events of the log that were not read yet", behind)

    def of_channels(name: str, kind: Kind, about: str, value: Callable[[Delivery], float]) -> None:
        samples = [({"channel": one.name}, value(one)) for one in desk.deliveries]
        to.family(f"rempart_alert_channel_{name}", kind, about, samples)

    of_channels("sent_total", "counter", "Notices that the channel took", lambda one: one.sent)
    of_channels("failures_total", "counter", "Attempts that failed", lambda one: one.failures)
    of_channels("lost_total", "counter", "Notices that gave way because too many waited", lambda one: one.lost)
    of_channels("waiting", "gauge", "Notices that wait", lambda one: len(one.waiting))
    of_channels("failing", "gauge", "1 while the last attempt failed", lambda one: bool(one.failing))
    return to.text()


def _channel(one: Delivery) -> dict[str, Any]:
    return {
        "name": one.name,
        "least": one.least.value,
        "waiting": len(one.waiting),
        "sent": one.sent,
        "failures": one.failures,
        "lost": one.lost,
        "failing": one.failing,
    }


def _listed(desk: Desk, standing: str) -> list[dict[str, Any]]:
    """Newest first; without `standing` those that are not resolved."""
    if standing not in ("", "all", *Standing):
        raise BadInput("bad_parameter", "there is no such standing", "use open, acknowledged, resolved or all")
    found = [
        incident.document()
        for incident in desk.incidents.incidents.values()
        if standing in ("all", incident.standing) or (not standing and incident.standing is not Standing.RESOLVED)
    ]
    return sorted(found, key=lambda one: one["last"], reverse=True)


async def _body(request: Request, kind: type[T]) -> T:
    body = await request.body()
    if len(body) > _MAX_BODY:
        raise BadInput("body_too_large", f"more than {_MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_body", f"the body is not what is expected here: {error}"[:300]) from None
