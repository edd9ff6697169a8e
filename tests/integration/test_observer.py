"""The observer process over its real sockets: who may read, what it passes on, and what it shows of the dead."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.support import short_directory

from rempart.crypto.jose import Jwks, SigningKey
from rempart.protocols.asgi_server import AsgiServer
from rempart.servers.boot import Boot
from rempart.servers.observer import run

GATEWAY = "spiffe://bank.example/rempart/gateway"
ISSUER = "https://localhost:8443/auth"
KEY = SigningKey.generate("ES256")


def token(key: SigningKey = KEY, **changes: Any) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "usr_1", "aud": "bank.example", "role": "audit", "iat": now, "exp": now + 60}
    return key.sign({k: v for k, v in (claims | changes).items() if v is not None})


def listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    listening.setblocking(False)
    return listening


class Neighbours:
    """People, sequencer, PDP and two components, each on a socket of its own."""

    def __init__(self) -> None:
        self.searched: list[dict[str, str]] = []
        self.search_status = 200
        self.jwks = Jwks.of(KEY)

    async def keys(self, request: Request) -> Response:
        return JSONResponse(self.jwks.export())

    async def search(self, request: Request) -> Response:
        self.searched.append(dict(request.query_params))
        return JSONResponse({"events": [{"id": "evt_1"}]}, self.search_status)

    async def tile(self, request: Request) -> Response:
        return Response(request.scope["path"].encode(), media_type="application/octet-stream")

    async def policies(self, request: Request) -> Response:
        return JSONResponse({"version": "abc", "files": []})

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse("# TYPE a_total counter\na_total 1\n")

    async def broken(self, request: Request) -> Response:
        return PlainTextResponse("a{ 1\n")

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/auth/jwks.json", self.keys),
                Route("/search", self.search),
                Route("/checkpoint", self.tile),
                Route("/tile/{path:path}", self.tile),
                Route("/policies", self.policies),
                Route("/metrics", self.metrics),
            ]
        )


Ask = Callable[..., Awaitable[httpx.Response]]


@contextlib.asynccontextmanager
async def observer(neighbours: Neighbours, **more: str) -> AsyncIterator[Ask]:
    with short_directory() as directory:
        server = AsgiServer(neighbours.app())
        sides = [listen(directory / "n.sock"), listen(directory / "b.sock")]
        await server.listen(sides[0])
        broken = AsgiServer(Starlette(routes=[Route("/metrics", neighbours.broken)]))
        await broken.listen(sides[1])
        all_sides = str(directory / "n.sock")
        settings = {
            "trust_domain": "bank.example",
            "issuer": ISSUER,
            "people_socket": all_sides,
            "metrics": {
                "pdp": all_sides,
                "people": all_sides,
                "dead": str(directory / "none.sock"),
                "broken": str(directory / "b.sock"),
            },
            "policies_socket": all_sides,
            "audit_socket": all_sides,
            **more,
        }
        sockets = {name: listen(directory / f"{name}.sock") for name in ("api", "metrics")}
        boot = Boot("observer", directory, directory, directory, settings, {}, sockets)
        running = asyncio.create_task(run(boot))

        async def ask(
            method: str, path: str, bearer: str | None = None, caller: str = GATEWAY, at: str = "api", **headers: str
        ) -> httpx.Response:
            sent = {"x-spiffe-id": caller, **{k.replace("_", "-"): v for k, v in headers.items()}}
            if bearer is not None:
                sent["authorization"] = f"Bearer {bearer}"
            transport = httpx.AsyncHTTPTransport(uds=str(directory / f"{at}.sock"))
            async with httpx.AsyncClient(transport=transport, timeout=5) as client:
                return await client.request(method, f"http://observer{path}", headers=sent)

        try:
            yield ask
        finally:
            if not running.done():
                signal.raise_signal(signal.SIGTERM)
            await asyncio.gather(running, server.stop(), broken.stop())
            for listening in (*sides, *sockets.values()):
                listening.close()


def in_observer(body: Callable[[Ask, Neighbours], Awaitable[None]], **more: str) -> None:
    async def go() -> None:
        neighbours = Neighbours()
        async with observer(neighbours, **more) as ask:
            await body(ask, neighbours)

    asyncio.run(go())


def test_an_auditor_reads_logs_policies_and_metrics() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        logs = await ask("GET", "/logs?person=usr_2&type=decision&before=9&limit=5", token())
        assert (logs.status_code, logs.json()) == (200, {"events": [{"id": "evt_1"}]})
        asked = {"person": "usr_2", "type": "decision", "before": "9", "limit": "5"}
        assert neighbours.searched == [asked | {"asker": "usr_1"}]  # auditors take turns
        policies = await ask("GET", "/opa/policies", token())
        assert (policies.status_code, policies.json()["version"]) == (200, "abc")
        metrics = await ask("GET", "/metrics", token())
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'a_total{component="pdp"} 1' in metrics.text
        assert 'a_total{component="people"} 1' in metrics.text
        assert metrics.text.count("# TYPE a_total counter") == 1

    in_observer(body)


def test_a_dead_and_a_broken_component_show_as_down_and_hide_nobody_else() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        text = (await ask("GET", "/metrics", token())).text
        up = {
            c: f'rempart_component_up{{component="{c}"}} {v}' in text
            for c, v in (("pdp", 1), ("dead", 0), ("broken", 0))
        }
        assert up == {"pdp": True, "dead": True, "broken": True}

    in_observer(body)


@pytest.mark.parametrize(
    ("make_bearer", "caller", "status", "code"),
    [
        (lambda: None, GATEWAY, 401, "no_token"),
        (lambda: "nonsense", GATEWAY, 401, "invalid_token"),
        (lambda: token(exp=1), GATEWAY, 401, "invalid_token"),
        (lambda: token(aud="other.example"), GATEWAY, 401, "invalid_token"),
        (lambda: token(SigningKey.generate("ES256")), GATEWAY, 401, "invalid_token"),
        (lambda: token(role="user"), GATEWAY, 403, "role_not_allowed"),
        (lambda: token(role="admin"), GATEWAY, 403, "role_not_allowed"),
        (lambda: token(role=None), GATEWAY, 403, "role_not_allowed"),
        (lambda: token(), "spiffe://bank.example/payment", 403, "not_the_gateway"),
        (lambda: token(), "", 403, "not_the_gateway"),
    ],
)
def test_nobody_else_reads(make_bearer: Callable[[], str | None], caller: str, status: int, code: str) -> None:
    bearer = make_bearer()  # now, not when the tests were collected: tokens end

    async def body(ask: Ask, neighbours: Neighbours) -> None:
        for path in ("/logs", "/metrics", "/nothing"):
            answer = await ask("GET", path, bearer, caller, x_rempart_decision="dec_1")
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["decision_id"]) == (status, code, "dec_1")
            assert answer.headers["content-type"] == "application/problem+json"
            assert ("www-authenticate" in answer.headers) == (status == 401)
        assert neighbours.searched == []

    in_observer(body)


def test_an_auditor_only_reads() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
            answer = await ask(method, "/logs", token())
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert neighbours.searched == []

    in_observer(body)


BAD_SEARCHES = {
    "sql=1": "unknown_parameter",
    "limit=1&limit=2": "repeated_parameter",
    "limit=0": "bad_limit",
    "limit=-1": "bad_limit",
    "limit=1e3": "bad_limit",
    "limit=%D9%A1": "bad_limit",
    "limit=1001": "bad_limit",
    "person=": "bad_parameter",
    "person=a%00b": "bad_parameter",
    "person=" + "a" * 501: "bad_parameter",
}


def test_a_bad_search_is_refused_with_a_code() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        answers = {query: await ask("GET", f"/logs?{query}", token()) for query in BAD_SEARCHES}
        assert {query: answer.json()["code"] for query, answer in answers.items()} == BAD_SEARCHES
        assert {answer.status_code for answer in answers.values()} == {400}
        assert neighbours.searched == []

    in_observer(body)


def test_a_failing_or_absent_sequencer_is_a_503() -> None:
    async def failing(ask: Ask, neighbours: Neighbours) -> None:
        neighbours.search_status = 500
        assert (await ask("GET", "/logs", token())).json()["code"] == "upstream_unavailable"

    async def absent(ask: Ask, neighbours: Neighbours) -> None:
        answer = await ask("GET", "/logs", token())
        assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")

    in_observer(failing)
    in_observer(absent, audit_socket="/nowhere/audit.sock")


def test_without_the_keys_of_people_nothing_is_shown() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        answer = await ask("GET", "/logs", token())
        assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")

    in_observer(body, people_socket="/nowhere/people.sock")


def test_it_counts_its_own_answers() -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        await ask("GET", "/logs", token())
        text = (await ask("GET", "/metrics", at="metrics")).text
        assert 'rempart_observer_requests_total{status="2xx"} 1.0' in text
        assert "process_start_time_seconds" in text
        json.dumps(text)

    in_observer(body)


@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/x001/234", "/tile/entries/000.p/7"])
def test_the_log_itself_is_read_below_logs_by_the_same_people(path: str) -> None:
    async def body(ask: Ask, neighbours: Neighbours) -> None:
        right = await ask("GET", f"/logs{path}", token())
        assert (right.status_code, right.content) == (200, path.encode())
        assert (await ask("GET", f"/logs{path}", token(role="user"))).status_code == 403
        assert (await ask("GET", "/logs/state", token())).status_code == 404

    in_observer(body)
