"""A small mesh of real Envoys for tests: hand-made certificates, a PDP and an application that answer as told."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import RSAKey
from tests.support import eventually, free_port

from rempart.mesh.binary import envoy_command
from rempart.mesh.config import envoy_config
from rempart.mesh.model import (
    Address,
    Control,
    Egress,
    Files,
    GatewaySettings,
    Ingress,
    Limits,
    Route,
    Settings,
    SidecarSettings,
    Tokens,
    Upstream,
)

NOW = datetime.datetime.now(datetime.UTC)
ISSUER = "https://localhost:8443/auth"
AUDIENCE = "bank.example"


class Authority:
    """A certificate authority of one trust domain, and what it signs, in files under `directory`."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        builder = self._builder(subject, self._key.public_key(), subject, 1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        with suppress(ValueError):
            uri = x509.UniformResourceIdentifier(f"spiffe://{name}")
            builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.bundle = directory / f"{name}.ca.pem"
        self.bundle.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(subject: x509.Name, key: Any, issuer: x509.Name, days: float, start: float = 1.0) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=start))
            .not_valid_after(NOW + datetime.timedelta(days=days))
        )

    def issue(self, name: str, *uris: str, days: float = 1.0, web: bool = False) -> tuple[str, str]:
        """Paths of a certificate and its key. `days` may be negative: expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
        builder = self._builder(subject, key.public_key(), self.certificate.subject, days, start=3)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if web:
            names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        chain, secret = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return str(chain), str(secret)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, not ca, ca, ca, False, False)


class Issuer:
    """Signs tokens as the people's service does."""

    def __init__(self) -> None:
        self._rsa = rsa.generate_private_key(65537, 2048)
        pem = self._rsa.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.key = RSAKey.import_key(pem, {"kid": "k1"})

    def jwks(self) -> bytes:
        public = {**self.key.as_dict(private=False), "use": "sig", "alg": "RS256"}
        return json.dumps({"keys": [public]}).encode()

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        body = {
            "iss": ISSUER,
            "sub": "u1",
            "aud": AUDIENCE,
            "role": "user",
            "scope": "session",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return str(jwt.encode({"alg": "RS256", "kid": "k1", "typ": "at+jwt"}, body, self.key))


@dataclass
class Seen:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    def claims(self) -> Any:
        raw = self.get("x-rempart-claims")
        return None if raw is None else json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Program:
    """An HTTP/1.1 server on a unix socket that remembers what it saw and answers by `answer`."""

    path: str
    answer: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    def start(self) -> Program:
        program = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = self.headers.get("content-length")
                if self.headers.get("transfer-encoding"):
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(length or 0))
                seen = Seen(self.command, self.path, list(self.headers.items()), body)
                program.seen.append(seen)
                status, headers, answer = program.answer(seen)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.handle_any
                raise AttributeError(name)

            def log_message(self, format: str, *args: Any) -> None:
                return

            def address_string(self) -> str:
                return "unix"

            def setup(self) -> None:
                program._open.append(self.request)
                super().setup()

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self._server = Server(self.path, Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def last(self) -> Seen:
        return self.seen[-1]


@dataclass
class Envoy:
    """A running Envoy; `lines` are those of its access log so far."""

    process: subprocess.Popen[bytes]
    settings: Settings
    lines: list[dict[str, Any]] = field(default_factory=list)

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        return [line for line in self.lines if all(line.get(key) == value for key, value in wanted.items())]


@contextmanager
def envoy(settings: Settings, directory: Path, *, concurrency: int = 1) -> Iterator[Envoy]:
    """Start a real Envoy on `settings` and wait until it is live; stopped at the end."""
    Path(settings.run_dir).mkdir(parents=True, exist_ok=True)
    path = directory / f"{settings.name}.json"
    path.write_text(json.dumps(envoy_config(settings)))
    errors = (directory / f"{settings.name}.log").open("wb")
    with (
        errors,
        subprocess.Popen(
            envoy_command(path, concurrency=concurrency), stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        running = Envoy(process, settings)

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                running.lines.append(json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            admin = f"{settings.run_dir}/admin.sock"
            eventually(lambda: process.poll() is not None or b"LIVE" in ask_unix(admin, "/ready"), within=15)
            assert process.poll() is None, errors.name
            yield running
        finally:
            process.terminate()
            process.wait(10)
            reader.join(5)


def ask_unix(path: str, target: str, method: str = "GET") -> bytes:
    """The whole answer as bytes, or nothing when nobody listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            connection.sendall(f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            return _rest(connection)
        except OSError:
            return b""


def _rest(connection: socket.socket) -> bytes:
    received = b""
    with suppress(OSError):
        while data := connection.recv(65536):
            received += data
    return received


def tls_context(ca: Path, certificate: tuple[str, str] | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(*certificate)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def raw(port: int, context: ssl.SSLContext, payload: bytes, *, timeout: float = 5.0, whole: bool = True) -> bytes:
    """Send bytes over TLS and return what comes back, until the other side closes or `timeout` passes.

    With `whole=False` until one complete answer is there: Envoy keeps a refused connection open a moment.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(payload)
        return _rest(connection) if whole else one_answer(connection)


def one_answer(connection: ssl.SSLSocket) -> bytes:
    received = b""
    with suppress(OSError):
        while data := connection.recv(65536):
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if end and length and len(body) >= int(length[1]):
                break
    return received


GATEWAY = "spiffe://bank.example/rempart/gateway"
WALLET = "spiffe://bank.example/wallet"
AGENT = "spiffe://bank.example/deposit-agent"
OTHER = "spiffe://bank.example/other"
TRACE = f"00-{'a' * 32}-{'b' * 16}-00"


def allow(seen: Seen) -> Answer:
    """What the PDP answers when it lets a request pass: the facts it was given, as identity headers."""
    claims = seen.claims() or {}
    headers = {"x-rempart-decision": f"dec_{seen.get('x-rempart-peer') or 'edge'}"[:60]}
    if claims:
        headers |= {"x-rempart-subject": claims["sub"], "x-rempart-role": claims["role"]}
    if peer := seen.get("x-rempart-peer"):
        headers["x-spiffe-id"] = peer
    headers["traceparent"] = TRACE
    return 200, headers, b""


def deny(seen: Seen) -> Answer:
    body = b'{"code":"denied","status":403}'
    return 403, {"content-type": "application/problem+json", "x-rempart-decision": "dec_no"}, body


@dataclass
class World:
    """Certificates, tokens, a PDP for each enforcement point, an application; settings for Envoys between them."""

    directory: Path

    def __post_init__(self) -> None:
        self.bank = Authority(self.directory, "bank.example")
        self.partner = Authority(self.directory, "partner.example")
        self.foreign = Authority(self.directory, "evil.example")
        self.web = Authority(self.directory, "web")
        self.web_certificate = self.web.issue("web-server", web=True)
        self.issuer = Issuer()
        self.gateway_port, self.wallet_port = free_port(), free_port()
        self.gateway_pdp = self.program("pdp-gateway", allow)
        self.wallet_pdp = self.program("pdp-wallet", allow)
        self.people = self.program("people", lambda _: (200, {"content-type": "application/json"}, self.issuer.jwks()))
        self.application = self.program("app", lambda _: (200, {"content-type": "text/plain"}, b"hello"))
        jwks = Upstream("people", Address(path=self.people.path))
        self.tokens = Tokens(ISSUER, AUDIENCE, jwks=jwks)
        self.gateway_certificate = self.bank.issue("gateway", GATEWAY)
        self.agent_certificate = self.bank.issue("agent", AGENT)

    def program(self, name: str, answer: Callable[[Seen], Answer]) -> Program:
        return Program(str(self.directory / f"{name}.sock"), answer).start()

    def close(self) -> None:
        for program in (self.gateway_pdp, self.wallet_pdp, self.people, self.application):
            program.stop()

    def files(self, certificate: tuple[str, str]) -> Files:
        bundles = ((self.bank.name, str(self.bank.bundle)), (self.partner.name, str(self.partner.bundle)))
        return Files(*certificate, bundles, *self.web_certificate)

    def gateway(self, *off: Control, limits: Limits | None = None, name: str = "gateway") -> GatewaySettings:
        wallet = Upstream("wallet", Address.parse(f"127.0.0.1:{self.wallet_port}"), WALLET)
        return GatewaySettings(
            name=name,
            spiffe_id=GATEWAY,
            run_dir=str(self.directory / name),
            listen=Address.parse(f"127.0.0.1:{self.gateway_port}"),
            certificates=self.files(self.gateway_certificate),
            pdp_socket=self.gateway_pdp.path,
            tokens=self.tokens,
            upstreams=(wallet,),
            routes=(Route("/wallet", "wallet"), Route("/transactions", "wallet")),
            limits=limits or Limits(),
            unsafe_disabled=frozenset(off),
        )

    def wallet(self, *off: Control, limits: Limits | None = None) -> SidecarSettings:
        return SidecarSettings(
            name="wallet",
            spiffe_id=WALLET,
            run_dir=str(self.directory / "wallet"),
            certificates=self.files(self.bank.issue("wallet", WALLET)),
            ingress=Ingress(
                listen=Address.parse(f"127.0.0.1:{self.wallet_port}"),
                application=Address(path=self.application.path),
                callers=(GATEWAY, AGENT, "spiffe://partner.example/declared"),
                pdp_socket=self.wallet_pdp.path,
                tokens=self.tokens,
            ),
            limits=limits or Limits(),
            unsafe_disabled=frozenset(off),
        )

    def agent(self) -> SidecarSettings:
        """A client workload: no ingress, one way out."""
        wallet = Upstream("wallet", Address.parse(f"127.0.0.1:{self.wallet_port}"), WALLET)
        return SidecarSettings(
            name="agent",
            spiffe_id=AGENT,
            run_dir=str(self.directory / "agent"),
            certificates=self.files(self.agent_certificate),
            egress=(Egress(Address(path=str(self.directory / "egress.sock")), wallet),),
        )
