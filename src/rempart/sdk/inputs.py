"""Read what a caller sent, strictly: whatever isn't exactly what was asked for is refused as BadInput, never guessed
at.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

MAX_BODY_BYTES = 64 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies: typed fields, unknown ones refused, no conversion between types."""


class _Request(Protocol):
    """What is used of a Starlette or FastAPI request."""

    @property
    def headers(self) -> Any: ...

    def stream(self) -> AsyncIterator[bytes]: ...


async def read_json(request: _Request, kind: type[T], *, limit: int = MAX_BODY_BYTES) -> T:
    """The request's JSON body as `kind`; raises BadInput `bad_content_type`, `body_too_large` or `bad_body`."""
    content_type = str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if content_type != "application/json":
        # A browser sends a form across sites without asking, JSON it does not: so this also stops cross-site posts.
        raise BadInput("bad_content_type", "the body must be application/json", "send content-type: application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BadInput("body_too_large", f"the body is larger than {limit} bytes")
    return decode_json(bytes(body), kind)


def decode_json(body: bytes, kind: type[T]) -> T:
    """Strict JSON (RFC 8259, and the I-JSON rules of RFC 7493 on duplicate names and Unicode); raises BadInput
    `bad_body`.

    Integers stay integers: `1.0`, `1e3`, `true`, `"1"` aren't; NaN, lone surrogates and trailing bytes are refused.
    """
    try:
        value = msgspec.json.decode(body, type=kind, strict=True)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        why = str(error)[:200] if isinstance(error, msgspec.MsgspecError) else "not JSON in UTF-8"
        raise BadInput("bad_body", f"the body can't be used: {why}") from None
    try:
        strict_json.loads(body)  # msgspec takes the last of two equal names
    except BadInput as error:
        raise BadInput("bad_body", error.reason, error.remedy) from None
    return value


def one(items: Iterable[tuple[str, str]], name: str, pattern: re.Pattern[str], *, default: str | None = None) -> str:
    """The one value of a query parameter, matching `pattern` as a whole.

    `items` are the decoded pairs (Starlette: `request.query_params.multi_items()`). Raises BadInput `bad_query` when it
    is missing without a `default`, given twice, or malformed.
    """
    values = [value for key, value in items if key == name]
    if not values and default is not None:
        return default
    if len(values) != 1 or not pattern.fullmatch(values[0]):
        raise BadInput("bad_query", f"the query needs {name} once and well formed")
    return values[0]


def idempotency_key(headers: Mapping[str, str]) -> str:
    """The `Idempotency-Key` header: 1 to 128 visible ASCII characters, once; raises BadInput
    `idempotency_key_required`.

    Source: draft-ietf-httpapi-idempotency-key-header; unlike there, quotes around the key are taken as part of it.
    """
    many = getattr(headers, "getlist", None)
    values = many("idempotency-key") if many else [v for k, v in headers.items() if k.lower() == "idempotency-key"]
    if len(values) != 1 or not _KEY.fullmatch(values[0]):
        raise BadInput(
            "idempotency_key_required",
            "one Idempotency-Key header of 1 to 128 visible ASCII characters is needed",
            "send a fresh UUID per payment and the same one when you retry it",
        )
    return str(values[0])
