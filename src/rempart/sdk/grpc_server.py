"""`ProtectGrpc`: an interceptor for `grpc.aio` servers behind their sidecar; every call has a verified caller.

    server = grpc.aio.server(interceptors=[ProtectGrpc()])

`caller()` and `requires` work as in ASGI applications. A refusal is a gRPC status with the stable code and the remedy
in trailing metadata (`rempart-code`, `rempart-remedy`). Needs the package `grpcio`, which Rempart itself doesn't.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from rempart.kernel.errors import RempartError

from .identify import Identifier, IdentityHeaders, Verifier
from .identity import Caller, current
from .tracing import request_span

log = logging.getLogger("rempart.sdk")

# What each HTTP status of ours is in gRPC (grpc/grpc, "Status codes and their use in gRPC").
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
HEALTH = "/grpc.health.v1.Health/"
_Context = grpc.aio.ServicerContext[Any, Any]


class ProtectGrpc(grpc.aio.ServerInterceptor):
    """`verifier` as in `Protect`. Calls under `open_prefix` are answered without a caller: health checks."""

    def __init__(self, *, verifier: Verifier | None = None, open_prefix: str = HEALTH) -> None:
        self._identifier = Identifier(verifier)
        self._open_prefix = open_prefix

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler: Any = await continuation(handler_call_details)
        if handler is None or (self._open_prefix and handler_call_details.method.startswith(self._open_prefix)):
            return handler  # type: ignore[no-any-return]  # what continuation gave
        metadata = handler_call_details.invocation_metadata or ()
        headers = IdentityHeaders((str(name), value) for name, value in metadata if isinstance(value, str))
        name = handler_call_details.method.lstrip("/")
        unary = self._unary(handler.unary_unary or handler.stream_unary, headers, name)
        stream = self._stream(handler.unary_stream or handler.stream_stream, headers, name)
        make = {
            (False, False): lambda: grpc.unary_unary_rpc_method_handler(unary, *_codec(handler)),
            (True, False): lambda: grpc.stream_unary_rpc_method_handler(unary, *_codec(handler)),
            (False, True): lambda: grpc.unary_stream_rpc_method_handler(stream, *_codec(handler)),
            (True, True): lambda: grpc.stream_stream_rpc_method_handler(stream, *_codec(handler)),
        }
        return make[handler.request_streaming, handler.response_streaming]()

    def _unary(self, behaviour: Any, headers: IdentityHeaders, name: str) -> Callable[[Any, _Context], Awaitable[Any]]:
        async def answer(request: Any, context: _Context) -> Any:
            token = current.set(await self._caller(headers, context))
            try:
                with request_span(headers.get("traceparent"), name):
                    return await behaviour(request, context)
            except RempartError as error:
                await _refuse(context, error)
            finally:
                current.reset(token)

        return answer

    def _stream(
        self, behaviour: Any, headers: IdentityHeaders, name: str
    ) -> Callable[[Any, _Context], AsyncIterator[Any]]:
        async def answer(request: Any, context: _Context) -> AsyncIterator[Any]:
            token = current.set(await self._caller(headers, context))
            try:
                with request_span(headers.get("traceparent"), name):
                    answers = behaviour(request, context)
                    if hasattr(answers, "__aiter__"):
                        async for message in answers:
                            yield message
                    else:  # a coroutine that writes by `context.write`
                        await answers
            except RempartError as error:
                await _refuse(context, error)
            finally:
                current.reset(token)

        return answer

    async def _caller(self, headers: IdentityHeaders, context: _Context) -> Caller:
        try:
            return await headers.caller(self._identifier)
        except RempartError as error:
            await _refuse(context, error)


async def _refuse(context: _Context, error: RempartError) -> NoReturn:
    trailing = [("rempart-code", error.code)]
    if error.remedy:
        trailing.append(("rempart-remedy", error.remedy.encode("ascii", "replace").decode()))
    await context.abort(_STATUS.get(error.status, grpc.StatusCode.INTERNAL), error.reason, tuple(trailing))


def _codec(handler: Any) -> tuple[Any, Any]:
    return handler.request_deserializer, handler.response_serializer
