"""gRPC through a real gateway and a real sidecar: the same rules, and refusals that a gRPC client understands."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpclib.client
import grpclib.const
import grpclib.exceptions
import grpclib.server
import pytest
from grpclib.encoding.base import CodecBase
from tests.support import eventually, short_directory
from tests.support_mesh import GATEWAY, World, allow, deny, envoy, tls_context

from rempart.mesh.model import Route

METHOD = "/bank.Wallet/Balance"


class Plain(CodecBase):
    """Messages are bytes as they are."""

    __content_subtype__ = "proto"  # which a client takes to be what plain application/grpc means

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return bytes(data)


class Wallet:
    def __init__(self) -> None:
        self.metadata: Mapping[str, Any] = {}

    async def balance(self, stream: Any) -> None:
        self.metadata = dict(stream.metadata)
        async for message in stream:
            await stream.send_message(b"echo " + message)

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        both = grpclib.const.Cardinality.STREAM_STREAM
        return {METHOD: grpclib.const.Handler(self.balance, both, bytes, bytes)}


@pytest.fixture
def directory() -> Any:
    with short_directory("mr") as made:
        yield made


async def _ask(world: World, messages: list[bytes], metadata: Mapping[str, str]) -> list[bytes]:
    context = tls_context(world.web.bundle, alpn=("h2",))
    async with grpclib.client.Channel("127.0.0.1", world.gateway_port, ssl=context, codec=Plain()) as channel:
        method = grpclib.client.StreamStreamMethod(channel, METHOD, bytes, bytes)
        async with method.open(metadata=metadata, timeout=5) as stream:
            answers = []
            for index, message in enumerate(messages):
                await stream.send_message(message, end=index == len(messages) - 1)
                answers.append(await stream.recv_message())
            return answers


async def _through(world: World, directory: Path) -> AsyncIterator[Wallet]:
    wallet = Wallet()
    server = grpclib.server.Server([wallet], codec=Plain())
    path = str(directory / "grpc.sock")
    await server.start(path=path)
    sidecar = world.wallet()
    assert sidecar.ingress
    application = dataclasses.replace(sidecar.ingress.application, path=path)
    sidecar = dataclasses.replace(
        sidecar, ingress=dataclasses.replace(sidecar.ingress, application=application, http2=True)
    )
    gateway = world.gateway()
    gateway = dataclasses.replace(
        gateway,
        upstreams=tuple(dataclasses.replace(one, http2=True) for one in gateway.upstreams),
        routes=(Route("/bank.Wallet", "wallet"),),
    )
    with envoy(sidecar, directory), envoy(gateway, directory):
        yield wallet
    server.close()
    await server.wait_closed()


def test_a_stream_passes_message_by_message_with_the_verified_identity(directory: Path) -> None:
    import asyncio

    async def play() -> None:
        world = World(directory)
        async for wallet in _through(world, directory):
            await asyncio.to_thread(eventually, lambda: world.people.seen)
            metadata = {"authorization": f"Bearer {world.issuer.token()}", "x-spiffe-id": "evil"}
            assert await _ask(world, [b"a", b"b"], metadata) == [b"echo a", b"echo b"]
            assert wallet.metadata["x-spiffe-id"] == GATEWAY
            assert world.gateway_pdp.last().method == "POST"
            assert world.gateway_pdp.last().path == "/authz" + METHOD

            world.gateway_pdp.answer = deny
            with pytest.raises(grpclib.exceptions.GRPCError) as refused:
                await _ask(world, [b"a"], metadata)
            assert refused.value.status is grpclib.const.Status.PERMISSION_DENIED

            world.gateway_pdp.answer = allow
            world.wallet_pdp.stop()
            with pytest.raises(grpclib.exceptions.GRPCError) as closed:
                await _ask(world, [b"a"], metadata)
            assert closed.value.status is grpclib.const.Status.UNAVAILABLE
        world.close()

    asyncio.run(play())
