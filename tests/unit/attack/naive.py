"""A gateway that believes everything: it answers 200 to whatever looks like HTTP, so every attack must get through."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rempart.attack.certificates import Authority
from rempart.attack.scene import Means, Scene

ACCOUNTS = [
    {"user_id": f"usr_{role}{number}", "email": f"{role}{number}@bank.example", "password": "a-password", "role": role}
    for role in ("user", "admin", "finance", "audit", "devops")
    for number in range(2)
]
TOKEN = "eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0.eyJzdWIiOiJ1c3IiLCJyb2xlIjoidXNlciJ9." + "QUJD" * 80


def answer(request: bytes) -> bytes:
    """Knows who may read nothing, and lets everybody read everything."""
    target = request.split(b" ", 2)[1].decode("latin-1") if request.count(b" ") > 1 else "/"
    document: Any = {"user_id": "usr_user1", "balance": 100, "transactions": [], "events": [], "next": None}
    if target == "/login" or target == "/auth/token":
        document = {"access_token": TOKEN, "refresh_token": "r", "token_type": "Bearer", "expires_in": 60}
    elif target == "/auth/jwks.json":
        document = {"keys": [{"kid": "k1", "kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}]}
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.contextmanager
def naive_system() -> Iterator[Scene]:
    authority = Authority.create("naive")
    identity = authority.issue(dns=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load(context)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def converse(plain: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(plain):
            plain.settimeout(2)
            with context.wrap_socket(plain, server_side=True) as connection:
                while data := connection.recv(1 << 20):
                    connection.sendall(answer(data))
                    if b"onnection: close" in data:
                        return

    def accept() -> None:
        while not stopped.is_set():
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=converse, args=(plain,), daemon=True)
            thread.start()
            threads.append(thread)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    with tempfile.TemporaryDirectory() as directory:
        ca = Path(directory) / "ca.pem"
        ca.write_bytes(identity.chain)
        port = listening.getsockname()[1]
        status = {
            "gateway": {"url": f"https://localhost:{port}", "ca": str(ca)},
            "issuer": f"https://localhost:{port}/auth",
            "trust_domain": "bank.example",
            "services": [
                {
                    "name": name,
                    "spiffe_id": f"spiffe://bank.example/{name}",
                    "mtls": f"https://127.0.0.1:{port}",
                    "routes": routes,
                }
                for name, routes in (
                    ("wallet", ["/wallet", "/transactions"]),
                    ("payment", ["/payments"]),
                    ("users", ["/users"]),
                )
            ],
        }
        try:
            yield Scene(status, ACCOUNTS, Means())
        finally:
            stopped.set()
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            accepting.join(5)
            for thread in threads:
                thread.join(5)
