"""All that an application may import of Rempart, in one place.

    from rempart.sdk import Protect, caller, requires, serve

    app = Protect(Starlette(routes=[...]))     # any ASGI application
    serve(app)                                 # where the sidecar expects it

Nothing heavy is loaded until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rempart.kernel.errors import (
        BadInput,
        Conflict,
        Denied,
        NotFound,
        RempartError,
        Throttled,
        Unauthenticated,
        Unavailable,
        Unprocessable,
    )
    from rempart.kernel.ids import new_id

    from .asgi import Protect
    from .events import EventSink, Outbox, OutgoingEvent, SocketEvents, relay
    from .grpc_server import ProtectGrpc
    from .http import Answer, Question, ServiceClient, SocketTransport, Transport
    from .identify import Verifier, published_keys_verifier
    from .identity import Caller, caller, requires
    from .inputs import Body, idempotency_key, one, read_json
    from .metrics import Metrics
    from .service import serve
    from .tokens import KeySet, TokenVerifier
    from .workload import Workload

_HOMES = {
    "rempart.kernel.errors": (
        "BadInput",
        "Conflict",
        "Denied",
        "NotFound",
        "RempartError",
        "Throttled",
        "Unauthenticated",
        "Unavailable",
        "Unprocessable",
    ),
    "rempart.kernel.ids": ("new_id",),
    "rempart.sdk.asgi": ("Protect",),
    "rempart.sdk.grpc_server": ("ProtectGrpc",),
    "rempart.sdk.identify": ("Verifier", "published_keys_verifier"),
    "rempart.sdk.identity": ("Caller", "caller", "requires"),
    "rempart.sdk.events": ("EventSink", "Outbox", "OutgoingEvent", "SocketEvents", "relay"),
    "rempart.sdk.http": ("Answer", "Question", "ServiceClient", "SocketTransport", "Transport"),
    "rempart.sdk.inputs": ("Body", "idempotency_key", "one", "read_json"),
    "rempart.sdk.metrics": ("Metrics",),
    "rempart.sdk.service": ("serve",),
    "rempart.sdk.tokens": ("KeySet", "TokenVerifier"),
    "rempart.sdk.workload": ("Workload",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped as a reader needs them
    "Protect",
    "ProtectGrpc",
    "requires",
    "caller",
    "Caller",
    "serve",
    "Body",
    "read_json",
    "one",
    "idempotency_key",
    "ServiceClient",
    "SocketTransport",
    "Transport",
    "Question",
    "Answer",
    "OutgoingEvent",
    "EventSink",
    "SocketEvents",
    "Outbox",
    "relay",
    "Verifier",
    "published_keys_verifier",
    "TokenVerifier",
    "KeySet",
    "Metrics",
    "Workload",
    "new_id",
    "RempartError",
    "BadInput",
    "Unauthenticated",
    "Denied",
    "NotFound",
    "Conflict",
    "Unprocessable",
    "Throttled",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
