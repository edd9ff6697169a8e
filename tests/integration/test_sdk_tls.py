"""Contexts that rotate by themselves, in the libraries that they are for: asyncio, httpx, uvicorn, urllib3, grpcio."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually, free_port

from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import Denied
from rempart.sdk.grpc_tls import channel_credentials, peer, server_credentials, to
from rempart.sdk.tls import TlsIdentity

ME = f"spiffe://{TRUST_DOMAIN}/test"
OTHER = f"spiffe://{TRUST_DOMAIN}/other"
Send = Callable[[dict[str, Any]], Awaitable[None]]


@pytest.fixture
def identity() -> Iterator[IdentityProcess]:
    with running_identity(svid_ttl=3) as process:
        yield process


async def hello(scope: dict[str, Any], receive: Any, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_httpx_and_uvicorn_use_each_svid_in_turn_with_one_context_each(identity: IdentityProcess) -> None:
    async def main() -> None:
        async with await TlsIdentity.start(identity.endpoint) as here:
            config = uvicorn.Config(hello, log_config=None, lifespan="off")
            config.load()
            config.ssl = here.server_context({ME})
            server = uvicorn.Server(config)
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                serving = asyncio.create_task(server.serve([listening]))
                url = f"https://127.0.0.1:{listening.getsockname()[1]}"
                right, wrong = here.client_context({ME}), here.client_context({OTHER})
                seen = set()
                async with asyncio.timeout(20):
                    while len(seen) < 3:
                        async with (
                            httpx.AsyncClient(verify=right, trust_env=False) as client,
                            client.stream("GET", url) as answer,
                        ):
                            assert (await answer.aread()) == b"hello"
                            connection = answer.extensions["network_stream"].get_extra_info("ssl_object")
                            seen.add(connection.getpeercert()["serialNumber"])
                        await asyncio.sleep(0.05)
                async with httpx.AsyncClient(verify=wrong, trust_env=False) as client:
                    with pytest.raises(httpx.ConnectError, match="peer_not_allowed"):
                        await client.get(url)
                server.should_exit = True
                await serving

    asyncio.run(main())


def test_a_server_ends_who_may_not_connect(identity: IdentityProcess) -> None:
    async def main() -> None:
        async with await TlsIdentity.start(identity.endpoint) as here:
            said: list[bytes] = []

            async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                said.append(await reader.read())
                writer.close()

            server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=here.server_context({OTHER}))
            port = server.sockets[0].getsockname()[1]

            async def order() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=here.client_context({ME}))
                writer.write(b"order")
                await reader.readexactly(1)

            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await order()
            server.close()
            assert said == []  # the handshake is not over for the server before the peer's id is right

    asyncio.run(main())


def test_a_compromised_root_is_trusted_no_more_by_contexts_that_stand(identity: IdentityProcess) -> None:
    """One that only took in new roots would let whoever has the old key connect for ever."""
    with TlsIdentity.in_background(identity.endpoint) as here:
        old = here.svid
        server, client = here.server_context({ME}), here.client_context({ME})
        before = set(old.roots)
        identity.supervisor.compromise_root("spiffe", grace=2)
        eventually(lambda: not before & set(here.svid.roots), within=15)

        def answer(listening: socket.socket) -> str:
            plain, _ = listening.accept()
            try:
                with plain, server.wrap_socket(plain, server_side=True) as tls:
                    tls.sendall(b"x")
                    return "served"
            except (ssl.SSLError, ConnectionError) as error:
                return str(error)

        from rempart.sdk.tls import client_context

        stolen = client_context(old)
        stolen.load_verify_locations(cadata=here.svid.bundle_pem())
        with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
            for context, expected in ((client, "served"), (stolen, "verify failed")):
                result = pool.submit(answer, listening)
                try:
                    with socket.create_connection(listening.getsockname()) as plain, context.wrap_socket(plain) as tls:
                        tls.recv(1)
                except (ssl.SSLError, ConnectionError):
                    assert context is stolen
                assert expected in result.result(5)


def test_a_program_without_an_event_loop(identity: IdentityProcess) -> None:
    """`http.client` wraps sockets where asyncio wraps buffers."""
    with TlsIdentity.in_background(identity.endpoint) as here:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            context = here.server_context({ME})

            def serve() -> None:
                for _ in range(2):
                    plain, _ = listening.accept()
                    with context.wrap_socket(plain, server_side=True) as tls:
                        tls.recv(4096)
                        tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            serials = set()
            for _ in range(2):
                before = here.svid
                connection = http.client.HTTPSConnection(
                    "127.0.0.1", listening.getsockname()[1], context=here.client_context({ME}), timeout=5
                )
                connection.request("GET", "/")
                assert connection.sock is not None
                serials.add(Certificate.parse(connection.sock.getpeercert(True)).serial)  # type: ignore[attr-defined]  # a TLS socket
                assert connection.getresponse().read() == b"ok"
                connection.close()
                eventually(lambda before=before: here.svid is not before, within=5)  # type: ignore[misc]  # mypy infers no default argument
            thread.join(5)
        assert len(serials) == 2


def whoami(request: bytes, context: grpc.ServicerContext) -> bytes:
    try:
        return str(peer(context, {ME})).encode()
    except Denied as error:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, error.reason)


def ask(here: TlsIdentity, port: int, name: str) -> Any:
    with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials(here), options=to(name)) as channel:
        call: Any = channel.unary_unary("/test.Who/Am")
        return call(b"", timeout=5)


def test_grpcio_both_ways() -> None:
    handler = grpc.method_handlers_generic_handler("test.Who", {"Am": grpc.unary_unary_rpc_method_handler(whoami)})
    named = {"spiffe_id": ME, "selectors": [f"unix:uid:{os.getuid()}"], "dns_names": ["test.internal"]}
    with running_identity([], svid_ttl=3) as identity:
        assert identity.admin("POST", "/entries", {"entries": [named]}).json()["created"]
        with TlsIdentity.in_background(identity.endpoint) as here:
            server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
            port = server.add_secure_port(f"127.0.0.1:{free_port()}", server_credentials(here))
            server.start()
            try:
                for _ in range(2):
                    before = here.svid
                    assert ask(here, port, "test.internal") == ME.encode()
                    eventually(lambda before=before: here.svid is not before, within=5)  # type: ignore[misc]  # mypy infers no default argument
                with pytest.raises(grpc.RpcError) as refusal:
                    ask(here, port, "other.internal")
                assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
            finally:
                server.stop(None)


def test_the_endpoint_may_come_from_the_environment(identity: IdentityProcess, monkeypatch: Any) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", identity.endpoint)
    with TlsIdentity.in_background() as here:
        assert here.svid.spiffe_id == ME
    assert os.environ["SPIFFE_ENDPOINT_SOCKET"] == identity.endpoint
