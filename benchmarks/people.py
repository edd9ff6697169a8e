"""What the people process does in a second, and what a flood of wrong logins does to somebody who is signed in.

The real process on its unix socket (its own SQLite file, every answer after a durable event), as many kept-alive
connections as Keycloak had when its figures were recorded (8). Those were taken on two cores like these at another
time: `benchmarks/keycloak.md` says how to take them again beside ours, and then `KEYCLOAK_*` below can be overridden.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import statistics
import subprocess  # nosec B404 - starts the flood
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from benchmarks.running import memory
from benchmarks.unix_http import Connection

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = 8
SECONDS = 4.0
PASSWORD = "a quiet river of glass 42"  # nosec B105 - of this benchmark's accounts
ISSUER = "https://localhost:8443/auth"
FLOOD = 500  # wrong logins a second
PACE = 0.01  # seconds between two requests of somebody who is signed in
# Keycloak 26.4, dev mode, H2, 8 connections, two cores: the upper end of what was recorded, per second.
KEYCLOAK_REFRESH = float(os.environ.get("KEYCLOAK_REFRESH", "350"))
KEYCLOAK_CREDENTIALS = float(os.environ.get("KEYCLOAK_CREDENTIALS", "490"))


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(ROOT))
    from tests.people_process import PeopleProcess
    from tests.support import short_directory

    with short_directory() as directory:
        people = PeopleProcess(directory)
        try:
            began = time.perf_counter()
            people.start()
            started = time.perf_counter() - began
            assert people.process is not None  # nosec B101 - it was just started
            rss = memory(people.process.pid)
            rows = [
                _row("people: start", "", f"{started:.2f} s", "≤ 1.5 s"),
                _row("people: memory after start", "", f"{rss:.0f} MiB RSS", "≤ 120 MB"),
            ]
            bench = _Bench(people)
            rows.append(_against("refresh with rotation, durable", bench.refresh(), KEYCLOAK_REFRESH, 4))
            rows.append(_against("client credentials, private_key_jwt", bench.credentials(), KEYCLOAK_CREDENTIALS, 3))
            rows.append(_against("introspection", bench.introspection(), KEYCLOAK_CREDENTIALS, 3))
            rows += bench.flood()
            rows.append(_row("people: memory afterwards", "", f"{memory(people.process.pid):.0f} MiB RSS", "≤ 120 MB"))
        finally:
            people.close()
    return rows


class _Bench:
    def __init__(self, people: Any) -> None:
        self._path, self._metrics = people.path("api"), people.path("metrics")
        self._key = ec.generate_private_key(ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        x, y = (_b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k1", "alg": "ES256"}
        with people.client("admin") as admin:
            for number in range(CLIENTS):
                body = {"email": f"p{number}@bank.example", "role": "user", "password": PASSWORD}
                admin.post("/users", json=body).raise_for_status()
            robot = {"id": "robot", "jwks": [jwk], "grants": ["client_credentials"], "scopes": ["reports"]}
            admin.post("/clients", json=robot).raise_for_status()

    def refresh(self) -> float:
        def make(number: int) -> Callable[[], None]:
            connection, held = self._connection(), [self._login(number)["refresh_token"]]

            def once() -> None:
                form = {"grant_type": "refresh_token", "refresh_token": held[0]}
                held[0] = _ok(connection.post("/auth/token", urlencode(form)))["refresh_token"]

            return once

        return _per_second(make)

    def credentials(self) -> float:
        def make(_: int) -> Callable[[], None]:
            connection = self._connection()
            return lambda: _ok(connection.post("/auth/token", urlencode(self._assertion()))) and None

        return _per_second(make)

    def introspection(self) -> float:
        """With a secret: what is measured is the answer, not another signature."""
        token = _ok(self._connection().post("/auth/token", urlencode(self._assertion())))["access_token"]

        def make(_: int) -> Callable[[], None]:
            connection = self._connection()

            def once() -> None:
                form = {**self._assertion(), "token": token}
                form.pop("grant_type")
                if not _ok(connection.post("/auth/introspect", urlencode(form)))["active"]:
                    raise AssertionError("inactive")

            return once

        return _per_second(make)

    def flood(self) -> list[dict[str, Any]]:
        """Quiet and flooded in turns, so that a slow moment of the machine meets both."""
        token = self._login(0)["access_token"]
        turns, sent = [], []
        for _ in range(5):
            quiet = self._latencies(token, 2.0)
            argv = [sys.executable, "-m", "benchmarks.login_flood", str(self._path), str(FLOOD)]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as flood:  # nosec B603 - ours
                self._until(lambda depth: depth > 0)
                flooded = self._latencies(token, 2.0)
                told = json.loads(flood.communicate()[0])
            sent.append(told["sent"] / told["seconds"])
            turns.append((_p99(quiet), _p99(flooded)))
            self._until(lambda depth: depth == 0)
        quiet_p99, flooded_p99 = (statistics.median(turn[n] for turn in turns) for n in (0, 1))
        return [
            {
                "what": f"p99 of a signed-in person's request, {statistics.median(sent):.0f} wrong logins/s",
                "against": "the same without the flood",
                "ours": f"{flooded_p99 * 1000:.1f} ms",
                "peer": f"{quiet_p99 * 1000:.1f} ms",
                "ratio": flooded_p99 / quiet_p99,
                "target": "≤ 2× at 500/s",
            }
        ]

    def _until(self, reached: Callable[[int], bool]) -> None:
        """By the number of passwords that wait: the flood has begun, or nothing is left of it."""
        page = Connection(self._metrics)
        while not reached(int(float(page.get("/metrics").body.split(b"\nrempart_people_argon2_queue ")[1].split()[0]))):
            time.sleep(0.02)
        page.close()

    def _latencies(self, token: str, seconds: float) -> list[float]:
        connection, taken = self._connection(), []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            began = time.perf_counter()
            if connection.get("/auth/userinfo", authorization=f"Bearer {token}").status != 200:
                raise AssertionError("refused")
            taken.append(time.perf_counter() - began)
            time.sleep(PACE)
        return taken

    def _connection(self) -> Connection:
        return Connection(self._path)

    def _login(self, number: int) -> dict[str, Any]:
        body = json.dumps({"email": f"p{number}@bank.example", "password": PASSWORD})
        return _ok(self._connection().post("/login", body, content_type="application/json"))

    def _assertion(self) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": "robot",
            "sub": "robot",
            "aud": ISSUER,
            "jti": secrets.token_hex(12),
            "iat": now,
            "exp": now + 60,
        }
        text = f"{_HEADER}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": f"{text}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}",
        }


def _per_second(make: Callable[[int], Callable[[], None]]) -> float:
    counts = [0] * CLIENTS
    barrier = threading.Barrier(CLIENTS + 1)
    end = [0.0]

    def work(number: int) -> None:
        once = make(number)
        for _ in range(20):
            once()
        barrier.wait()
        barrier.wait()
        while time.perf_counter() < end[0]:
            once()
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    barrier.wait()
    began = time.perf_counter()
    end[0] = began + SECONDS
    barrier.wait()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def _ok(reply: Any) -> dict[str, Any]:
    if reply.status != 200:
        raise AssertionError(f"refused: {reply.status} {reply.body[:200]!r}")
    document: dict[str, Any] = json.loads(reply.body)
    return document


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_HEADER = _b64(b'{"alg":"ES256","kid":"k1"}')


def _p99(taken: list[float]) -> float:
    return sorted(taken)[int(len(taken) * 0.99)]


def _against(what: str, ours: float, peer: float, times: int) -> dict[str, Any]:
    return {
        "what": what,
        "against": "Keycloak 26.4, recorded",
        "ours": f"{ours:.0f}/s",
        "peer": f"{peer:.0f}/s",
        "ratio": ours / peer,
        "target": f"≥ {times}×",
    }


def _row(what: str, against: str, ours: str, target: str) -> dict[str, Any]:
    return {"what": what, "against": against, "ours": ours, "ratio": None, "target": target}
