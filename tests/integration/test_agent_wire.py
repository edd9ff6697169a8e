"""An agent's connection to servers that are away, lie, stall or flood; and a server's port against those who do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent_support import entry_for, make_token, running_agent, write_bundle
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually, free_port

from rempart.audit.journal import Journal
from rempart.backends import agent_https
from rempart.backends.agent_https import HttpsServer
from rempart.crypto.x509 import EcKey, self_sign_root, sign_issuing, sign_svid
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import Denied, RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.sdk.spiffe import fetch_x509_svid
from rempart.servers.agent_listener import OF_AGENT, STRANGERS_OF_ADDRESS, load_key
from rempart.servers.agent_parts import agent_parts
from rempart.workloads.agents.evidence import ShownToken
from rempart.workloads.model import X509Svid

SERVER = f"spiffe://{TRUST_DOMAIN}/rempart/server"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Domain:
    """A trust domain's root and issuing CA, in memory."""

    def __init__(self) -> None:
        root_key, self._key, now = EcKey.generate(), EcKey.generate(), time.time()
        self.root = self_sign_root(root_key, common_name="r", trust_domain=TRUST_DOMAIN, now=now, ttl=3600)
        self._issuing = sign_issuing(
            self._key.request(),
            root=self.root,
            root_key=root_key,
            common_name="i",
            trust_domain=TRUST_DOMAIN,
            host_names=(),
            now=now,
            ttl=3600,
        )

    def svid(self, spiffe_id: str) -> X509Svid:
        key, named = EcKey.generate(), SpiffeId.parse(spiffe_id)
        leaf = sign_svid(key, named, issuing=self._issuing, issuing_key=self._key, now=time.time(), ttl=600)
        return X509Svid(named, "", (leaf, self._issuing), key)


@contextlib.asynccontextmanager
async def serving(svid: X509Svid, serve: Serve) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_key(context, svid)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(port: int, domain: Domain, *, within_s: float = 3.0) -> bytes:
    connection = HttpsServer([("127.0.0.1", port)], SERVER)
    connection.use([domain.root], None)
    try:
        return await connection.ask("POST", "/v1/x", b"secret", within_s=within_s)
    finally:
        await connection.close()


def answering(answer: bytes, heard: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            read = await reader.read(65536)
            if heard is not None and read:
                heard.append(read)
            writer.write(answer)
            await writer.drain()
            writer.close()

    return serve


def test_nothing_is_sent_to_who_is_not_the_server() -> None:
    async def scenario() -> None:
        domain, heard = Domain(), list[bytes]()
        for name in ("/wallet", "/rempart/agent/join_token/x", "/rempart/server/x"):
            svid = domain.svid(f"spiffe://{TRUST_DOMAIN}{name}")
            async with serving(svid, answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", heard)) as port:
                with pytest.raises(Unavailable) as refusal:
                    await ask(port, domain)
                assert refusal.value.code == "not_the_server"
        async with serving(Domain().svid(SERVER), answering(b"", heard)) as port:  # the right name by another root
            with pytest.raises(Unavailable) as refusal:
                await ask(port, domain)
            assert refusal.value.code == "server_away"
        assert heard == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 503 Away\r\ncontent-length: 1\r\n\r\n{",
        b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 400 Large\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_a_refusal_of_ours(answer: bytes) -> None:
    async def scenario() -> None:
        domain = Domain()
        async with serving(domain.svid(SERVER), answering(answer)) as port:
            with pytest.raises(RempartError):
                await ask(port, domain)

    asyncio.run(scenario())


def test_a_server_that_stalls_or_floods_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_https, "MAX_ANSWER", 1 << 20)

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0)  # over a lost connection `drain` goes on without letting anybody know of it

    async def scenario() -> None:
        domain = Domain()
        for serve in (stall, flood):
            begun = time.monotonic()
            async with serving(domain.svid(SERVER), serve) as port:
                with pytest.raises(Unavailable):
                    await ask(port, domain, within_s=1.0)
            assert time.monotonic() - begun < 3

    asyncio.run(scenario())


def test_of_several_servers_the_next_is_asked() -> None:
    async def scenario() -> None:
        domain = Domain()
        good = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        async with serving(domain.svid(SERVER), good) as port:
            connection = HttpsServer([("127.0.0.1", free_port()), ("127.0.0.1", port)], SERVER)
            connection.use([domain.root], None)
            for _ in range(3):
                assert await connection.ask("GET", "/v1/sync", within_s=5.0) == b"{}"
            await connection.close()

    asyncio.run(scenario())


# -- the server's port -----------------------------------------------------------------------------------------------


def say(port: int, text: bytes, *, context: ssl.SSLContext | None = None) -> bytes:
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(text)
        heard = b""
        with contextlib.suppress(OSError):
            while piece := tls.recv(65536):
                heard += piece
        return heard


@pytest.fixture(scope="module")
def server() -> Any:
    port = free_port()
    with running_identity([], agents=("127.0.0.1", port)) as identity:
        yield identity, port


def test_older_tls_is_not_spoken(server: tuple[IdentityProcess, int]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        say(server[1], b"", context=context)


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/sync HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"POST /v1/join HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\n[[[[[",
        b"POST /v1/join HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/join HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000,
        b"GET /v1/bundle HTTP/1.1\r\n" + b"x: y\r\n" * 200_000 + b"\r\n",
    ],
)
def test_nonsense_is_answered_without_a_5xx(server: tuple[IdentityProcess, int], text: bytes) -> None:
    heard = say(server[1], text)
    assert heard == b"" or heard[9:10] in (b"4", b"2"), heard[:200]
    identity = server[0]
    assert identity.process is not None
    assert identity.process.poll() is None


def test_one_address_has_a_few_connections_and_others_are_answered(server: tuple[IdentityProcess, int]) -> None:
    identity, port = server
    held = []
    with running_agent(identity, port) as (agent, name), contextlib.ExitStack() as closing:
        for _ in range(STRANGERS_OF_ADDRESS + 40):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            plain = closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(OSError):
                tls = closing.enter_context(context.wrap_socket(plain))
                tls.settimeout(0.05)
                held.append(tls)
        dropped = sum(_is_closed(one) for one in held)
        assert dropped >= 30
        identity.admin("POST", "/entries", {"entries": [entry_for(name, "/batch")]})
        eventually(lambda: _has_identity(agent.endpoint), within=5)
    eventually(lambda: say(port, b"GET /v1/bundle HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"), within=15)


def test_one_svid_has_a_few_connections_of_which_the_oldest_ends(
    server: tuple[IdentityProcess, int], tmp_path: Path
) -> None:
    """Those that a cut link left behind must not keep an agent out; who has its SVID must not keep others out."""
    identity, port = server
    ask = b"GET /v1/bundle HTTP/1.1\r\nhost: a\r\n\r\n"
    with joined(identity, port, tmp_path) as svid, contextlib.ExitStack() as closing:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        load_key(context, svid)
        held = []
        for _ in range(OF_AGENT + 10):
            plain = closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            held.append(closing.enter_context(context.wrap_socket(plain)))
            held[-1].sendall(ask)
            assert held[-1].recv(65536).startswith(b"HTTP/1.1 200")
        for one in held:
            one.settimeout(0.2)
        assert [_ends(one) for one in held] == [True] * 10 + [False] * OF_AGENT
        identity.admin("DELETE", f"/agents/{svid.spiffe_id}")
        last = held[-1]
        last.settimeout(10)
        last.sendall(b"GET /v1/sync HTTP/1.1\r\nhost: a\r\n\r\n")
        refused = b""
        while piece := last.recv(65536):
            refused += piece
        assert b"agent_unknown" in refused  # and the connection ended


def _ends(connection: ssl.SSLSocket) -> bool:
    """The rest of an answer may come before."""
    while True:
        try:
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            return False
        except OSError:
            return True


def test_a_workload_takes_no_agents_place(tmp_path: Path) -> None:
    port = free_port()
    with running_identity(agents=("127.0.0.1", port)) as identity, contextlib.ExitStack() as closing:
        workload = fetch_x509_svid(identity.endpoint)
        (tmp_path / "both.pem").write_text(workload.private_key_pem() + workload.certificate_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(tmp_path / "both.pem")
        held = []
        for _ in range(STRANGERS_OF_ADDRESS + 20):
            plain = closing.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(OSError):
                tls = closing.enter_context(context.wrap_socket(plain))
                tls.settimeout(0.05)
                held.append(tls)
        assert sum(_is_closed(one) for one in held) >= 15


@contextlib.contextmanager
def joined(identity: IdentityProcess, port: int, directory: Path) -> Iterator[X509Svid]:
    """The SVID of an agent that joined in this process."""
    token, _ = make_token(identity, directory)
    bundle = write_bundle(identity, directory).read_text()
    journal = Journal(directory / "journal", "agent")

    async def join() -> X509Svid:
        parts = agent_parts(
            TRUST_DOMAIN,
            [("127.0.0.1", port)],
            ShownToken(token.read_text()),
            kept=directory / "agent.sealed",
            seal_key=b"k" * 32,
            journal=journal,
            clock=SystemClock(),
        )
        await parts.membership.begin(bundle)
        await parts.server.close()
        assert parts.membership.svid is not None
        return parts.membership.svid

    try:
        yield asyncio.run(join())
    finally:
        journal.close()


def _is_closed(connection: ssl.SSLSocket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_agents_of_a_server_that_comes_back_ask_for_news_and_for_no_new_svid() -> None:
    """Six agents wait at its socket, which the supervisor keeps, or try again by chance, and ask one question each."""
    port = free_port()
    with running_identity([], agents=("127.0.0.1", port)) as identity, contextlib.ExitStack() as closing:
        agents = [closing.enter_context(running_agent(identity, port)) for _ in range(6)]
        for agent, name in agents:
            identity.admin("POST", "/entries", {"entries": [entry_for(name, "/batch")]})
            eventually(lambda agent=agent: _has_identity(agent.endpoint), within=5)  # type: ignore[misc]  # mypy infers no default argument
        identity.stop()
        for agent, _ in agents:
            eventually(lambda agent=agent: agent.status()["server_away_since"], within=40)  # type: ignore[misc]  # as above
        before = {name: fetch_x509_svid(agent.endpoint).chain for agent, name in agents}
        identity.start()
        for agent, _ in agents:
            eventually(lambda agent=agent: agent.status()["server_away_since"] is None, within=60)  # type: ignore[misc]  # as above
        assert before == {name: fetch_x509_svid(agent.endpoint).chain for agent, name in agents}


def _has_identity(endpoint: str) -> bool:
    try:
        return bool(fetch_x509_svid(endpoint))
    except (Denied, Unavailable):
        return False
