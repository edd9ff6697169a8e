"""What Prometheus reads of this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from starlette.requests import Request
from starlette.responses import Response

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PeopleMetrics:
    """Implements `ports.Tally`. Gauges are read when the page is."""

    def __init__(
        self, *, queue: Callable[[], int], entries: Callable[[], int], ages: Callable[[], Mapping[str, float]]
    ):
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
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE)
