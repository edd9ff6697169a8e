"""What Prometheus reads of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.telemetry.asgi import route
from rempart.telemetry.spans import under_way

_OPERATIONS = {"/login": "login", "/auth/token": "token", "/auth/introspect": "introspect"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class PeopleMetrics:
    """Implements `ports.Tally`. Gauges are read when the page is."""

    def __init__(
        self,
        *,
        queue: Callable[[], int],
        entries: Callable[[], int],
        ages: Callable[[], Mapping[str, float]],
        more: Collector | None = None,
    ):
        """`more`: what else the page has."""
        self._registry = CollectorRegistry()
        self._logins = Counter("rempart_people_logins", "Logins by outcome", ["outcome"], registry=self._registry)
        self._refreshes = Counter(
            "rempart_people_refreshes", "Refreshes by outcome", ["outcome"], registry=self._registry
        )
        self._tokens = Counter(
            "rempart_people_tokens",
            "Requests of known clients at the token endpoint",
            ["grant", "outcome"],
            registry=self._registry,
        )
        for outcome in ("success", "failed", "throttled", "busy"):
            self._logins.labels(outcome)
        for outcome in ("success", "refused"):
            self._refreshes.labels(outcome)
        depth = Gauge("rempart_people_argon2_queue", "Passwords waiting to be hashed", registry=self._registry)
        depth.set_function(queue)
        throttled = Gauge("rempart_people_throttle_entries", "Places that failed logins", registry=self._registry)
        throttled.set_function(entries)
        seconds = Histogram(
            "rempart_people_request_seconds",
            "Time from request to answer",
            ["operation"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._seconds = {name: seconds.labels(name) for name in (*_OPERATIONS.values(), "other")}
        if more is not None:
            self._registry.register(more)
        self._ages = ages
        self._key_age = Gauge(
            "rempart_people_signing_key_age_seconds",
            "Age of the oldest key",
            ["state"],
            registry=self._registry,
        )

    def login(self, outcome: str) -> None:
        self._logins.labels(outcome).inc()

    def refresh(self, outcome: str) -> None:
        self._refreshes.labels(outcome).inc()

    def token(self, grant: str, outcome: str) -> None:
        self._tokens.labels(grant.rpartition(":")[2], outcome).inc()

    async def page(self, request: Request) -> Response:
        for state, age in self._ages().items():
            self._key_age.labels(state).set(age)
        write, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(write(self._registry), media_type=kind)

    def timed(self, app: ASGIApp) -> ASGIApp:
        """`app`, with the time of each request observed; of a traced one as an example of its bucket."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            started = time.perf_counter()
            try:
                await app(scope, receive, send)
            finally:
                operation = _OPERATIONS.get(route(scope), "other")
                here = under_way()
                self._seconds[operation].observe(
                    time.perf_counter() - started, {"trace_id": here.trace_id} if here else None
                )

        return observed
