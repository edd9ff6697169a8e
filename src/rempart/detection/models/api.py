"""The models' face for the operator: which there are, what they are made of, what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from rempart.kernel.errors import BadInput, NotFound
from rempart.protocols.http_answers import json_response, served
from rempart.telemetry.exposition import CONTENT_TYPE

from .model import ESTIMATORS, Row, Subject
from .training import features_of
from .watch import Watch

_MAX_BODY = 4 << 20


class _Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: list[Row]


def models_app(watch: Watch, metrics: Callable[[], str]) -> ASGIApp:
    """GET `/models`, `/models/{subject}`, `/risks`, `/metrics`, `/healthz`;
    POST `/models/{subject}/train`, `/models/{subject}/score`; DELETE `/risks/{principal}`."""

    async def answer(request: Request) -> Response:
        parts = request.scope["path"].strip("/").split("/")
        operator = request.client.host if request.client else ""
        match (request.method, *parts):
            case ("GET", "healthz"):
                return json_response({"ready": True})
            case ("GET", "metrics"):
                return Response(metrics(), media_type=CONTENT_TYPE)
            case ("GET", "models"):
                return json_response({"models": [document(watch, one) for one in Subject], **_progress(watch)})
            case ("GET", "models", name):
                return json_response(document(watch, _subject(name), whole=True))
            case ("POST", "models", name, "train"):
                await watch.train(_subject(name))
                return json_response(document(watch, _subject(name), whole=True))
            case ("POST", "models", name, "score"):
                return json_response({"ratings": await _scored(watch, _subject(name), request)})
            case ("GET", "risks"):
                return json_response({"risks": _risks(watch)})
            case ("DELETE", "risks", *name):
                if not await watch.clear("/".join(name), operator):
                    raise NotFound("no_such_risk", "its risk is not raised", "see `rempart models risks`")
                return Response(status_code=204)
        raise NotFound("no_such_resource", "nothing is at this path", "see docs/models.md")

    return served(answer)


def document(watch: Watch, subject: Subject, *, whole: bool = False) -> dict[str, Any]:
    """What `rempart models list|show` tell of a subject."""
    stream, standing = watch.stream, watch.standing[subject]
    samples, model = stream.samples[subject], stream.models.get(subject)
    refused = watch.files.refused.get(subject)
    lacking = watch.lacking(subject)
    found: dict[str, Any] = {
        "subject": subject.value,
        "estimator": ESTIMATORS[subject],
        "state": "in force" if model else "refused" if refused else "not enough data" if lacking else "not trained",
        "samples": len(samples),
        "wanted": watch.wanted(subject),
        "why": refused.reason if refused and not model else "" if model else lacking,
        "failed": standing.failed,
        "drifted": standing.drifted,
    }
    if model is not None:
        trained = model.body.model
        found |= {
            "model": model.name,
            "serial": model.body.serial,
            "sha256": model.digest,
            "bytes": model.size,
            "trained_at": model.body.trained_at,
            "rows": trained.rows,
            "principals": trained.principals,
            "own_models": len(trained.own),
            "set_aside": list(trained.set_aside),
            "window": [trained.first, trained.last],
        }
    if whole:
        found["features"] = [
            {"name": one.name, "meaning": one.meaning, "least": one.least, "most": one.most}
            for one in features_of(subject)
        ]
        found["signer"] = watch.files.signer.verifier_key
        chosen = samples.choose(stream.clock.now)
        found["left_out"] = chosen.left_out
        if model is not None:
            profiles = zip(found["features"], model.body.model.profile, strict=True)
            for feature, profile in profiles:
                feature |= {"median": profile.middle, "usual": list(profile.usual)}
    return found


def _progress(watch: Watch) -> dict[str, Any]:
    return {"taken": watch.cursor, "size": watch.size, "risks": len(watch.risks.active())}


def _risks(watch: Watch) -> list[dict[str, Any]]:
    return [
        {"principal": name, "level": risk.level.value, "since": risk.since, "until": risk.until}
        for name, risk in watch.risks.active().items()
    ]


async def _scored(watch: Watch, subject: Subject, request: Request) -> list[dict[str, Any]]:
    model = watch.stream.models.get(subject)
    if model is None:
        raise NotFound("no_model", watch.lacking(subject) or "there is no model", "see `rempart models list`")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise BadInput("too_large", f"more than {_MAX_BODY} bytes", "give fewer rows")
    try:
        rows = msgspec.json.decode(body, type=_Rows).rows
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadInput("bad_rows", 'the body is not {"rows": […]}', "use `rempart models score`") from None
    if any(len(row.packed) != 4 * len(model.features) for row in rows):
        raise BadInput("bad_rows", f"a row has not {len(model.features)} values", "use `rempart models score`")
    return [model.rate(row).document() for row in rows]


def _subject(name: str) -> Subject:
    if name not in list(Subject):
        raise NotFound("no_such_subject", "there is no such model", "choose from " + ", ".join(Subject))
    return Subject(name)
