"""An engine and a kubelet that really answer, on a unix socket and over TLS, as their API references have it."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.support import free_port, short_directory
from tests.unit.workloads.test_containers import INSPECTED, POD, A, pod
from tests.upstream_ca import make_ca

from rempart.backends.docker_engine import DockerEngine
from rempart.backends.kubelet import Kubelet
from rempart.backends.kubernetes_tokens import TokenReview
from rempart.crypto import x509
from rempart.kernel.errors import Unauthenticated, Unavailable
from rempart.workloads import authority
from rempart.workloads.containers import Container
from rempart.workloads.docker import DockerFacts
from rempart.workloads.kubernetes import KubernetesFacts


class Handler(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    token: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.answers.get(self.path, (404, b'{"message": "No such container"}'))
        if self.token and self.headers.get("authorization") != f"Bearer {self.token}":
            status, body = 401, b"Unauthorized"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked has had enough
            self.wfile.write(body)

    def address_string(self) -> str:
        return "peer"

    def log_message(self, format: str, *arguments: Any) -> None: ...


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PATH = f"/containers/{A}/json"


@pytest.fixture
def engine() -> Iterator[Path]:
    with short_directory() as directory:
        path = directory / "docker.sock"
        Handler.answers, Handler.token = {PATH: (200, json.dumps(INSPECTED).encode())}, ""
        with served(UnixServer(str(path), Handler)):
            yield path


def test_an_engine_on_a_unix_socket(engine: Path) -> None:
    facts = asyncio.run(DockerFacts(DockerEngine(engine)).of(Container(A, "")))
    assert "docker:label:com.example.team:payments" in {str(one) for one in facts}
    assert asyncio.run(DockerFacts(DockerEngine(engine)).of(Container("b" * 64, ""))) == set()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"[]"),
        (200, b"{"),
        (200, b'{"Id": 1, "Id": 2}'),
        (200, b"{}" + b" " * (2 << 20)),
        (500, b"{}"),
        (302, b"{}"),
    ],
    ids=["list", "cut", "twice", "huge", "failing", "elsewhere"],
)
def test_an_engine_that_does_not_answer_well_gives_no_facts(engine: Path, answer: tuple[int, bytes]) -> None:
    Handler.answers = {PATH: answer}
    with pytest.raises(Unavailable):
        asyncio.run(DockerEngine(engine).container(A))
    assert asyncio.run(DockerFacts(DockerEngine(engine)).of(Container(A, ""))) == set()


def test_no_engine_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(DockerEngine(tmp_path / "none").container(A))


def certified(directory: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A CA file, and a server context with a certificate for 127.0.0.1 below it."""
    ca = make_ca(name, kind="P-256")
    key = x509.EcKey.generate()
    root = x509.Certificate.parse(x509.pem_to_ders(ca.pem())[0])
    pem = authority.sign_issuing(
        "web",
        "kube.example",
        root_certificate_pem=ca.pem(),
        root_key_pem=ca.key_pem(),
        csr_pem=key.request().decode(),
        ttl=600,
        names=["127.0.0.1"],
    )
    issuing = x509.Certificate.parse(x509.pem_to_ders(pem)[0])
    server_key = x509.EcKey.generate()
    leaf = x509.sign_server(
        server_key, ["127.0.0.1"], issuing=issuing, issuing_key=key, now=issuing.not_before + 60, ttl=500
    )
    (directory / f"{name}.pem").write_bytes(root.pem())
    chain = directory / f"{name}-server.pem"
    chain.write_bytes(leaf.pem() + issuing.pem() + server_key.to_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return directory / f"{name}.pem", context


def test_a_kubelet_over_tls_with_a_token_that_is_replaced(tmp_path: Path) -> None:
    ca, context = certified(tmp_path, "kubelet")
    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    listed = {"kind": "PodList", "apiVersion": "v1", "items": [pod()]}
    Handler.answers, Handler.token = {"/pods": (200, json.dumps(listed).encode())}, "first"
    token = tmp_path / "token"
    token.write_text("first\n")
    url = f"https://127.0.0.1:{port}"
    with served(server):
        kubelet = Kubelet(url, ca=ca, token=token)
        facts = asyncio.run(KubernetesFacts(kubelet).of(Container(A, POD)))
        assert {"k8s:ns:prod", "k8s:sa:blog"} <= {str(one) for one in facts}
        Handler.token = "second"
        with pytest.raises(Unavailable):
            asyncio.run(kubelet.pods())
        token.write_text("second\n")
        assert asyncio.run(kubelet.pods())
        stranger, _ = certified(tmp_path, "stranger")
        for other in (Kubelet(url, ca=stranger, token=token), Kubelet(url, ca=ca, token=tmp_path / "none")):
            with pytest.raises(Unavailable):
                asyncio.run(other.pods())


def test_a_token_review_over_tls(tmp_path: Path) -> None:
    """Answers as the API reference of authentication.k8s.io/v1 TokenReview has them."""
    ca, context = certified(tmp_path, "api")
    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Reviewer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    own = tmp_path / "token"
    own.write_text("the servers own\n")
    url = f"https://127.0.0.1:{port}"
    extra = {
        f"authentication.kubernetes.io/{name}": [value]
        for name, value in (("pod-name", "agent-x"), ("pod-uid", "u1"), ("node-name", "node-1"), ("node-uid", "u2"))
    }
    user = {"username": "system:serviceaccount:rempart:agent", "uid": "u3", "groups": [], "extra": extra}
    good = {"authenticated": True, "audiences": ["rempart-server"], "user": user}
    with served(server):
        review = TokenReview(url, ca=ca, token=own).review
        Reviewer.status = good
        account = asyncio.run(review("a.b.c", "rempart-server"))
        assert (account.namespace, account.name, account.node_uid) == ("rempart", "agent", "u2")
        asked = json.loads(Reviewer.asked[-1])
        assert asked["spec"] == {"token": "a.b.c", "audiences": ["rempart-server"]}
        assert Reviewer.authorized[-1] == "Bearer the servers own"
        for status in (
            {"authenticated": False, "error": "token expired"},
            {**good, "authenticated": "true"},
            {**good, "audiences": ["https://kubernetes"]},
            {"authenticated": True, "user": user},
            {**good, "user": {**user, "extra": {}}},
            {**good, "user": {**user, "username": "admin"}},
        ):
            Reviewer.status = status
            with pytest.raises(Unauthenticated):
                asyncio.run(review("a.b.c", "rempart-server"))
        with pytest.raises(Unauthenticated):
            asyncio.run(review("x" * 100_000, "rempart-server"))
    with pytest.raises(Unavailable):
        asyncio.run(review("a.b.c", "rempart-server"))


class Reviewer(Handler):
    status: ClassVar[dict[str, Any]] = {}
    authorized: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.authorized.append(self.headers.get("authorization"))
        body = json.dumps({"kind": "TokenReview", "status": self.status}).encode()
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
