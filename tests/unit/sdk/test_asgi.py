"""Protect: nobody gets in without a verified identity, and every refusal is a problem document."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.sdk_support import GATEWAY, Keys, ask, headers, token, verifier

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import Conflict, Throttled
from rempart.sdk import Protect, caller


async def who(request: Request) -> JSONResponse:
    me = caller()
    return JSONResponse(
        {
            "workload": str(me.workload),
            "person": me.person.subject if me.person else None,
            "role": me.person.role if me.person else None,
            "claims": dict(me.claims),
            "request_id": me.request_id,
        }
    )


async def refuse(request: Request) -> JSONResponse:
    raise Conflict("taken", "it is taken", "take another")


async def throttle(request: Request) -> JSONResponse:
    raise Throttled("slow", "slower", retry_after=7)


async def crash(request: Request) -> JSONResponse:
    raise RuntimeError("secret detail")


async def teapot(request: Request) -> JSONResponse:
    raise HTTPException(418)


async def late(request: Request) -> StreamingResponse:
    async def parts() -> Any:
        yield b"begun"
        raise RuntimeError("too late")

    return StreamingResponse(parts())


async def sync_page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


ROUTES = [
    Route("/who", who),
    Route("/refuse", refuse),
    Route("/throttle", throttle),
    Route("/crash", crash),
    Route("/teapot", teapot),
    Route("/late", late),
    Route("/page", sync_page),
]


def outside() -> Any:
    return Protect(Starlette(routes=ROUTES), verifier=verifier())


def inside() -> Any:
    return Starlette(routes=ROUTES, middleware=[Middleware(Protect, verifier=verifier())])


@pytest.fixture(params=[outside, inside], ids=["around", "as middleware"])
def app(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_a_person_through_the_gateway(app: Any) -> None:
    answer = ask(app, "GET", "/who", headers("acc_1", "finance"))
    assert answer.status_code == 200
    told = answer.json()
    assert (told["workload"], told["person"], told["role"]) == (GATEWAY, "acc_1", "finance")
    assert told["claims"]["sub"] == "acc_1"
    assert told["request_id"] == "req-1"
    assert answer.headers["x-request-id"] == "req-1"
    assert answer.headers["x-rempart-decision"] == "dec_1"


def test_a_workload_alone(app: Any) -> None:
    told = ask(app, "GET", "/who", headers(workload="spiffe://bank.example/payment")).json()
    assert told["workload"] == "spiffe://bank.example/payment"
    assert told["person"] is None


def test_nobody_without_the_sidecar(app: Any) -> None:
    answer = ask(app, "GET", "/who", [("authorization", f"Bearer {token('acc_1')}")])
    assert answer.status_code == 401
    assert answer.json()["code"] == "no_workload"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "spiffe_id", ["", "payment", "spiffe://", "spiffe://a/../b", "spiffe://A/b", "spiffe://a/b,spiffe://a/c"]
)
def test_a_malformed_spiffe_id(app: Any, spiffe_id: str) -> None:
    assert ask(app, "GET", "/who", [("x-spiffe-id", spiffe_id)]).status_code == 401


@pytest.mark.parametrize(
    "name", ["x-spiffe-id", "authorization", "x-rempart-subject", "x-rempart-role", "x-rempart-decision"]
)
def test_an_identity_header_twice(app: Any, name: str) -> None:
    given = headers("acc_1")
    answer = ask(app, "GET", "/who", [*given, (name, dict(given)[name])])
    assert answer.status_code == 400
    assert answer.json()["code"] == "duplicate_header"


def test_a_token_that_speaks_of_another_than_the_sidecar(app: Any) -> None:
    for given in (
        [*headers(), ("authorization", f"Bearer {token('acc_1')}"), ("x-rempart-subject", "acc_2")],
        [*headers(), ("authorization", f"Bearer {token('acc_1')}"), ("x-rempart-role", "admin")],
        [*headers(), ("x-rempart-subject", "acc_1")],
        [*headers(), ("x-rempart-role", "admin")],
    ):
        answer = ask(app, "GET", "/who", given)
        assert (answer.status_code, answer.json()["code"]) == (401, "identity_mismatch")


def test_bad_tokens_are_refused_again_here(app: Any) -> None:
    stranger = SigningKey.generate("EdDSA")
    for bad in (
        "",
        "Basic YTpi",
        "Bearer",
        "Bearer ",
        "Bearer x.y.z",
        f"Bearer {token('acc_1', key=stranger)}",
        f"Bearer {token('acc_1', now=1000.0)}",
        f"Bearer {token('acc_1', aud='elsewhere')}",
        f"Bearer {token('acc_1', iss='elsewhere')}",
        f"Bearer {token('acc_1')[:-4]}AAAA",
    ):
        answer = ask(app, "GET", "/who", [*headers(), ("authorization", bad)])
        if bad == "":
            assert answer.status_code == 200
            assert answer.json()["person"] is None
        else:
            assert answer.status_code == 401, bad
            assert answer.json()["code"] == "invalid_token"
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_bound_token_comes_as_dpop_and_no_other_does(app: Any) -> None:
    """The gateway has seen the proof of the key (RFC 9449 section 7.1)."""
    bound = token("acc_1", cnf={"jkt": "x"})
    answer = ask(app, "GET", "/who", [*headers(), ("authorization", f"DPoP {bound}")])
    assert (answer.status_code, answer.json()["person"]) == (200, "acc_1")
    for refused in (f"Bearer {bound}", f"DPoP {token('acc_1')}"):
        answer = ask(app, "GET", "/who", [*headers(), ("authorization", refused)])
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


def test_no_keys_no_entry() -> None:
    keys = Keys()
    keys.down = True
    app = Protect(Starlette(routes=ROUTES), verifier=verifier(keys))
    answer = ask(app, "GET", "/who", headers("acc_1"))
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")


def test_a_refusal_is_told_in_full(app: Any) -> None:
    answer = ask(app, "GET", "/refuse", headers("acc_1"))
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:rempart:problem:taken",
        "title": "Conflict",
        "status": 409,
        "detail": "it is taken",
        "code": "taken",
        "decision_id": "dec_1",
        "remedy": "take another",
    }
    assert answer.headers["x-rempart-decision"] == "dec_1"
    assert ask(app, "GET", "/throttle", headers("acc_1")).headers["retry-after"] == "7"


def test_a_crash_tells_nothing(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(app, "GET", "/crash", headers("acc_1"))
    assert answer.status_code == 500
    assert answer.json()["code"] == "service_failed"
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text
    assert "Bearer" not in caplog.text


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/none", "GET", 404), ("/who", "POST", 405), ("/teapot", "GET", 418)]
)
def test_the_frameworks_own_refusals_are_problems_too(path: str, method: str, status: int) -> None:
    answer = ask(outside(), method, path, headers("acc_1"))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["decision_id"] == "dec_1"
    if status == 405:
        assert "GET" in answer.headers["allow"]


def test_an_answer_that_breaks_off_is_not_finished() -> None:
    with pytest.raises(ConnectionError):
        ask(outside(), "GET", "/late", headers("acc_1"))


def test_health_and_metrics_need_no_caller(app: Any) -> None:
    ask(app, "GET", "/page", headers("acc_1"))
    ask(app, "BREW", "/page", headers("acc_1"))
    assert ask(app, "GET", "/healthz").json() == {"status": "ok"}
    page = ask(app, "GET", "/metrics").text
    assert 'rempart_app_requests_total{method="GET",status="200"} 1.0' in page
    assert 'method="other"' in page
    assert ask(app, "POST", "/healthz").status_code == 401
    assert ask(app, "GET", "/healthz/").status_code == 401


def test_there_is_no_caller_outside_of_a_request() -> None:
    from rempart.kernel.errors import Unauthenticated

    with pytest.raises(Unauthenticated):
        caller()


def test_callers_do_not_mix() -> None:
    async def slow(request: Request) -> JSONResponse:
        before = caller().the_person().subject
        await asyncio.sleep(0.005)
        return JSONResponse([before, caller().the_person().subject])

    app = Protect(Starlette(routes=[Route("/slow", slow)]), verifier=verifier())

    async def run() -> None:
        from tests.sdk_support import client

        async with client(app) as http:
            names = [f"acc_{n}" for n in range(20)]
            answers = await asyncio.gather(*(http.get("/slow", headers=headers(name)) for name in names))
            assert [a.json() for a in answers] == [[name, name] for name in names]

    asyncio.run(run())


def test_a_websocket_needs_a_caller_as_well() -> None:
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(str(caller().workload))
        await socket.close()

    app = Protect(Starlette(routes=[WebSocketRoute("/ws", echo)]), verifier=verifier())

    async def connect(given: list[tuple[str, str]]) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in given]
        scope = {"type": "websocket", "path": "/ws", "headers": raw, "query_string": b"", "subprotocols": []}
        await app(scope, receive, send)
        return sent

    assert asyncio.run(connect(headers("acc_1")))[1]["text"] == GATEWAY
    refused = asyncio.run(connect([]))
    assert [m["type"] for m in refused] == ["websocket.close"]
    assert refused[0]["code"] == 1008
