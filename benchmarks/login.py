"""`POST /login` against argon2id alone: what everything around the hash costs.

The real people process on its unix socket (throttle, two database accesses, ES256, a durable event) and, in turns with
it, as many threads as it has workers that do nothing but verify the same kind of hash. Turns, because a machine
is rarely as fast in one second as in the next; the ratio is the median of the turns.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rempart.crypto.passwords import Argon2id

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
CLIENTS = 8
TURNS = 5
SECONDS = 2.0
PASSWORD = "a quiet river of glass 42"
TARGET = 0.9


def run() -> list[dict[str, Any]]:
    sys.path.insert(0, str(ROOT))
    from tests.people_process import PeopleProcess
    from tests.support import short_directory

    with short_directory() as directory:
        people = PeopleProcess(directory, {"argon2_workers": WORKERS})
        try:
            people.start()
            with people.client("admin") as admin:
                for number in range(CLIENTS):
                    body = {"email": f"p{number}@bank.example", "role": "user", "password": PASSWORD}
                    admin.post("/users", json=body).raise_for_status()
            _logins(people.path("api"), 0.5)
            turns = [(_logins(people.path("api"), SECONDS), _hashes(SECONDS)) for _ in range(TURNS)]
        finally:
            people.close()
    return [
        {
            "what": "POST /login, recorded durably",
            "against": f"argon2id alone, {WORKERS} threads",
            "ours": f"{statistics.median(login for login, _ in turns):.0f} logins/s",
            "peer": f"{statistics.median(peer for _, peer in turns):.0f} hashes/s",
            "ratio": statistics.median(login / peer for login, peer in turns),
            "target": f"≥ {TARGET}×",
        }
    ]


def _hashes(seconds: float) -> float:
    """Verifications per second."""
    hasher = Argon2id()
    encoded = hasher.hash(PASSWORD)
    return _per_second(WORKERS, seconds, lambda _: lambda: hasher.verify(PASSWORD, encoded))


def _logins(path: Path, seconds: float) -> float:
    """Successful logins per second over `CLIENTS` kept-alive connections, one account each."""
    return _per_second(CLIENTS, seconds, lambda number: _Client(path, number).login)


def _per_second(threads: int, seconds: float, make: Any) -> float:
    counts = [0] * threads
    barrier = threading.Barrier(threads + 1)
    end = [0.0]

    def work(number: int) -> None:
        call = make(number)
        barrier.wait()
        while time.perf_counter() < end[0]:
            if not call():
                raise AssertionError("refused")
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    started = time.perf_counter()
    end[0] = started + seconds
    barrier.wait()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


class _Client:
    """HTTP/1.1 with next to no work of its own, since it runs on the cores that are measured."""

    def __init__(self, path: Path, number: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        body = json.dumps({"email": f"p{number}@bank.example", "password": PASSWORD}).encode()
        head = f"POST /login HTTP/1.1\r\nhost: people\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self._request = f"{head}\r\n\r\n".encode() + body

    def login(self) -> bool:
        self._socket.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(65536)
        return head.startswith(b"HTTP/1.1 200")
