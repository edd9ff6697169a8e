"""The observer process: the read-only face for auditors, and the metrics of all components on one page.

Sockets: `api` (behind its sidecar), `metrics` (its own counts). It holds no state and no journal: what it shows is
the sequencer's, the PDP's and the components' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rempart.detection.api import observer_app
from rempart.detection.ports import Answer
from rempart.kernel.errors import Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.sdk.tokens import PublishedKeys, TokenVerifier
from rempart.telemetry.exposition import CONTENT_TYPE
from rempart.wiring.process_settings import ObserverSettings

from .boot import Boot
from .serving import serve

_PREFERRED = "application/openmetrics-text; version=1.0.0, text/plain; version=0.0.4; q=0.5"
_MAX_PAGE_BYTES = 32 * 1024 * 1024


class UnixHttp:
    """GET over a unix socket. One connection pool for each socket, safe for many tasks."""

    def __init__(self, path: str, *, timeout: float = 5.0) -> None:
        self._path = path
        self._client = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path), timeout=timeout, trust_env=False)

    async def get(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """Implements `detection.ports.Reader`."""
        try:
            response = await self._client.get("http://unix" + path, params=dict(parameters))
        except httpx.HTTPError as error:
            raise Unavailable(
                "upstream_unavailable", f"no answer: {type(error).__name__}", "see `rempart status`"
            ) from None
        return Answer(response.status_code, response.content, response.headers.get("content-type", "application/json"))

    async def page(self) -> str:
        """Implements `detection.ports.MetricsSource`."""
        chunks: list[bytes] = []
        size = 0
        try:
            async with self._client.stream("GET", "http://unix/metrics", headers={"accept": _PREFERRED}) as response:
                if response.status_code != 200:
                    raise OSError(f"{self._path} answered {response.status_code}")
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > _MAX_PAGE_BYTES:
                        raise OSError(f"{self._path} answered more than {_MAX_PAGE_BYTES} bytes")
                    chunks.append(chunk)
        except httpx.HTTPError as error:
            raise OSError(f"{self._path}: {type(error).__name__}") from None
        return b"".join(chunks).decode()

    async def body(self, path: str) -> bytes:
        """The body of a 200 answer; raises Unavailable."""
        answer = await self.get(path, {})
        if answer.status != 200:
            raise Unavailable("upstream_unavailable", f"answered {answer.status}", "see `rempart status`")
        return answer.body

    async def close(self) -> None:
        await self._client.aclose()


def own_metrics(registry: CollectorRegistry) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = scope["path"] == "/metrics"
            response = (
                Response(generate_latest(registry), 200, media_type=CONTENT_TYPE) if found else Response(b"", 404)
            )
            await response(scope, receive, send)

    return app


def counted(app: ASGIApp, requests: Counter) -> ASGIApp:
    """Count answers by their class of status."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Any) -> None:
            if message["type"] == "http.response.start":
                requests.labels(f"{message['status'] // 100}xx").inc()
            await send(message)

        await app(scope, receive, count)

    return wrapped


async def run(boot: Boot) -> None:
    """Serve until SIGTERM; finish what is in flight."""
    settings = boot.read_settings(ObserverSettings)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    requests = Counter("rempart_observer_requests_total", "Answers of the observer.", ["status"], registry=registry)
    for status in ("2xx", "4xx", "5xx"):
        requests.labels(status)
    sources = {name: UnixHttp(path) for name, path in settings.metrics.items()}
    people, log, policies = (
        UnixHttp(path) for path in (settings.people_socket, settings.audit_socket, settings.policies_socket)
    )
    app = observer_app(
        gateway=str(SpiffeId.of(settings.trust_domain, "rempart", "gateway")),
        tokens=TokenVerifier(PublishedKeys(people.body), issuer=settings.issuer, audience=settings.trust_domain),
        log=log,
        policies=policies,
        metrics=sources,
    )
    await serve(boot, {"api": counted(app, requests), "metrics": own_metrics(registry)})
    for client in (people, log, policies, *sources.values()):
        await client.close()


def main() -> None:
    import uvloop

    uvloop.run(run(Boot.from_environment()))


if __name__ == "__main__":
    main()
