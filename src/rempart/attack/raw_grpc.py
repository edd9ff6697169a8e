"""gRPC with nothing checked before it is sent: any method, any bytes, any metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rempart.sdk.spiffe import endpoint_path


async def call(method: str, request: bytes, metadata: Mapping[str, str]) -> bytes:
    """The first message of a stream, as bytes; raises grpclib's errors."""
    import asyncio

    from grpclib.client import Channel
    from grpclib.const import Cardinality
    from grpclib.encoding.base import CodecBase

    class Raw(CodecBase):
        __content_subtype__ = "proto"

        def encode(self, message: Any, message_type: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> Any:
            return data

    channel = Channel(path=endpoint_path(), codec=Raw())
    try:
        async with asyncio.timeout(4):
            async with channel.request(
                method, Cardinality.STREAM_STREAM, bytes, bytes, metadata=dict(metadata)
            ) as stream:
                await stream.send_message(request)
                message = await stream.recv_message()
                return bytes(message or b"")
    finally:
        channel.close()


def spoken(method: str, request: bytes = b"", streams: int = 1) -> bytes:
    """The bytes of whole requests, from the preface on, for programs that have no HTTP/2 library."""
    from h2.connection import H2Connection

    connection = H2Connection()
    connection.initiate_connection()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("workload.spiffe.io", "true"),
    ]
    for number in range(streams):
        connection.send_headers(2 * number + 1, headers)
        connection.send_data(2 * number + 1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
    return bytes(connection.data_to_send())
