"""`ProtectGrpc` in a real `grpc.aio` server on a unix socket, asked by grpcio's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.sdk_support import GATEWAY, headers, token, verifier
from tests.support import short_directory

from rempart.kernel.errors import Conflict
from rempart.sdk import ProtectGrpc, caller, requires

NAME = "demo.Notes"


class Service(grpc.GenericRpcHandler):
    """All four kinds of call; each answers with who asked."""

    async def one(self, request: bytes, context: Any) -> bytes:
        return f"{caller().workload} {caller().the_person().subject}".encode()

    @requires(role="admin")
    async def admin(self, request: bytes, context: Any) -> bytes:
        return b"done"

    async def taken(self, request: bytes, context: Any) -> bytes:
        raise Conflict("name_taken", "there is one", "choose another")

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(2):
            yield caller().the_person().subject.encode()

    async def written(self, request: bytes, context: Any) -> None:
        await context.write(caller().the_person().subject.encode())

    async def gather(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([part async for part in requests]) + caller().the_person().subject.encode()

    async def talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for part in requests:
            yield part + caller().the_person().subject.encode()

    async def health(self, request: bytes, context: Any) -> bytes:
        return b"up"

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        make = {
            "many": grpc.unary_stream_rpc_method_handler,
            "written": grpc.unary_stream_rpc_method_handler,
            "gather": grpc.stream_unary_rpc_method_handler,
            "talk": grpc.stream_stream_rpc_method_handler,
        }.get(name, grpc.unary_unary_rpc_method_handler)
        behaviour = getattr(self, name, None)
        return make(behaviour) if behaviour else None


def ask(kind: str, method: str, payload: Any, metadata: Sequence[tuple[str, str]], name: str = NAME) -> Any:
    """The answer, or the error that the client saw."""

    async def run(directory: Path) -> Any:
        server = grpc.aio.server(interceptors=[ProtectGrpc(verifier=verifier())])
        server.add_generic_rpc_handlers((Service(),))
        server.add_insecure_port(f"unix:{directory}/app.sock")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{directory}/app.sock") as channel:
                call = getattr(channel, kind)(f"/{name}/{method}")(payload, metadata=tuple(metadata), timeout=30)
                if kind.endswith("stream"):
                    return [message async for message in call]
                return await call
        except grpc.aio.AioRpcError as error:
            return error
        finally:
            await server.stop(None)

    with short_directory("gr") as directory:
        return asyncio.run(run(directory))


@pytest.mark.parametrize(
    ("kind", "method", "payload", "answer"),
    [
        ("unary_unary", "one", b"", f"{GATEWAY} ann".encode()),
        ("unary_stream", "many", b"", [b"ann", b"ann"]),
        ("unary_stream", "written", b"", [b"ann"]),
        ("stream_unary", "gather", [b"x", b"y"], b"xyann"),
        ("stream_stream", "talk", [b"x", b"y"], [b"xann", b"yann"]),
    ],
)
def test_every_kind_of_call_knows_its_caller_and_none_is_answered_without(
    kind: str, method: str, payload: Any, answer: Any
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in payload:
            yield part

    async def silence() -> AsyncIterator[bytes]:
        """grpc.aio tells INTERNAL to who still writes when the refusal comes."""
        await asyncio.Event().wait()
        yield b""

    streams = isinstance(payload, list)
    assert ask(kind, method, parts() if streams else payload, headers("ann")) == answer
    refused = ask(kind, method, silence() if streams else payload, [])
    assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
    assert dict(refused.trailing_metadata())["rempart-code"] == "no_workload"


@pytest.mark.parametrize(
    ("metadata", "status", "code"),
    [
        (headers(), grpc.StatusCode.UNAUTHENTICATED, "token_required"),
        ([*headers("ann"), ("x-spiffe-id", GATEWAY)], grpc.StatusCode.INVALID_ARGUMENT, "duplicate_header"),
        ([("x-spiffe-id", "evil")], grpc.StatusCode.UNAUTHENTICATED, "no_workload"),
        ([("x-spiffe-id", GATEWAY), ("authorization", "Basic eDp5")], grpc.StatusCode.UNAUTHENTICATED, "invalid_token"),
        (
            [("x-spiffe-id", GATEWAY), ("authorization", "Bearer " + token("a", now=1e9))],
            grpc.StatusCode.UNAUTHENTICATED,
            "invalid_token",
        ),
        (
            [("x-spiffe-id", GATEWAY), ("x-rempart-subject", "bob"), ("authorization", "Bearer " + token("ann"))],
            grpc.StatusCode.UNAUTHENTICATED,
            "identity_mismatch",
        ),
    ],
)
def test_refusals(metadata: list[tuple[str, str]], status: grpc.StatusCode, code: str) -> None:
    refused = ask("unary_unary", "one", b"", metadata)
    assert refused.code() is status
    assert dict(refused.trailing_metadata())["rempart-code"] == code


def test_what_the_service_refuses_keeps_its_code_and_remedy() -> None:
    refused = ask("unary_unary", "taken", b"", headers("ann"))
    assert (refused.code(), refused.details()) == (grpc.StatusCode.ABORTED, "there is one")
    assert dict(refused.trailing_metadata()) == {"rempart-code": "name_taken", "rempart-remedy": "choose another"}


def test_a_role_is_demanded() -> None:
    assert ask("unary_unary", "admin", b"", headers("ann")).code() is grpc.StatusCode.PERMISSION_DENIED
    assert ask("unary_unary", "admin", b"", headers("root", "admin")) == b"done"


def test_health_checks_need_no_caller_and_unknown_methods_stay_unknown() -> None:
    assert ask("unary_unary", "health", b"", [], name="grpc.health.v1.Health") == b"up"
    assert ask("unary_unary", "nothing", b"", headers("ann")).code() is grpc.StatusCode.UNIMPLEMENTED
